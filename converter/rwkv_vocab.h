// RWKV's vocabulary file (rwkv_vocab_v20230424.txt), as checkpoints of the World models carry it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::convert {

// Lines of an id, a Python literal ('text' or b'bytes') and the number of its bytes. Id 0, which the file
// lacks, becomes the control token <|endoftext|>. Errors: kInvalidFile with the line; `what` names the file.
Result<fb::TokenizerT> import_rwkv_vocab(std::string_view text, const std::string& what);

// rwkv_vocab_v20230424.txt of a folder, or whatever the version is; empty where there is none.
std::filesystem::path rwkv_vocabulary(const std::filesystem::path& folder);

// RWKV World's turns, as a chat template: "User: ...", a blank line, "Assistant: ...", a blank line.
extern const char* const kRwkvWorldTemplate;

}  // namespace linnet::convert
