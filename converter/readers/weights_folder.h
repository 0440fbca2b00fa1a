// The weights of a Hugging Face folder, in whatever form they lie there.
#pragma once

#include <string>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// NAME.safetensors or the shards of NAME.safetensors.index.json; where there are none, pytorch_NAME.bin or
// its shards (torch_zip.h). `name` is "model" for language models. Errors: those of the readers; kNotFound
// with what was looked for; a shard or a listed tensor that is missing.
Result<void> read_weights_folder(const std::string& folder, const std::string& name, Checkpoint& checkpoint);

}  // namespace linnet::convert
