// A checkpoint made uniform: whatever it is (a Hugging Face folder, a GGUF file, RWKV's torch file), the
// importers see a configuration and tensors as Hugging Face names them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/architectures/importer.h"
#include "format/model_generated.h"

namespace linnet::convert {

struct Source {
  Source() = default;
  Source(Source&&) = default;
  Source& operator=(Source&&) = default;
  ~Source() { release(config); }

  std::string kind;  // for the metadata: "Hugging Face folder", "GGUF", ...
  std::string name;  // for the metadata
  Json config;
  std::unique_ptr<TensorSet> tensors;
  std::unique_ptr<fb::TokenizerT> tokenizer;  // null if the checkpoint has none
  std::string chat_template;
  std::unique_ptr<fb::SamplerDefaultsT> sampler;
  std::vector<std::pair<std::string, std::string>> metadata;  // licence, origin, ...
  std::vector<std::string> notes;
  std::vector<std::string> details;  // which file gave what, for --verbose
};

// Errors: kNotFound, kIo, kInvalidFile, kUnsupported; all name the file.
Result<Source> open_source(const std::string& path);

}  // namespace linnet::convert
