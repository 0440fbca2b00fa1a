// GGUF under Hugging Face names: llama.cpp renames tensors, turns rows of q and k of Llama models, adds 1 to
// Gemma's norms and keeps the configuration as metadata. This undoes it, so that importers exist once.
#pragma once

#include "converter/readers/gguf.h"
#include "converter/source.h"

namespace linnet::convert {

// config.json as the model's folder would have it. Errors: kUnsupported architecture, a missing key.
Result<Json> gguf_config(const Gguf& gguf, const std::string& path);
std::unique_ptr<TensorSet> gguf_tensors(std::shared_ptr<const Gguf> gguf, const Json& config,
                                        const std::string& path);

}  // namespace linnet::convert
