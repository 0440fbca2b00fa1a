// GGUF's block encodings, one block at a time. The layouts are those of ggml (ggml-common.h).
#pragma once

#include <cstdint>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Decodes one block of a block encoding (kQ4_0 and after) at `p` into its values at `y`.
void decode_ggml_block(Encoding encoding, const uint8_t* p, float* y);

}  // namespace linnet::convert
