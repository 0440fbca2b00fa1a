// GGUF's block encodings, one block at a time. The layouts are those of ggml (ggml-common.h).
#pragma once

#include <cstdint>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Takes one block of a block encoding (kQ4_0 and after) at `p` apart: block_values / 32 groups of its nearest
// type.
void take_ggml_block_apart(Encoding encoding, const uint8_t* p, format::BlockGroup* groups);

}  // namespace linnet::convert
