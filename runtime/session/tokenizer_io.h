// The tokenizer table of a model file as the text layer takes it.
#pragma once

#include "format/model_generated.h"
#include "runtime/text/tokenizer.h"

namespace linnet::text {

TokenizerSpec from_fb(const fb::TokenizerT& table);

}  // namespace linnet::text
