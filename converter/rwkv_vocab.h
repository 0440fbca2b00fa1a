// RWKV's vocabulary file (rwkv_vocab_v20230424.txt), as checkpoints of the World models carry it.
#pragma once

#include <string>
#include <string_view>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::convert {

// Lines of an id, a Python literal ('text' or b'bytes') and the number of its bytes. Id 0, which the file
// lacks, becomes the control token <|endoftext|>. Errors: kInvalidFile with the line; `what` names the file.
Result<fb::TokenizerT> import_rwkv_vocab(std::string_view text, const std::string& what);

}  // namespace linnet::convert
