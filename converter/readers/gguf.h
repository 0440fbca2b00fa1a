// GGUF v2 and v3, little endian (ggml's docs/gguf.md). Metadata is typed and bounded; tensors become a
// Checkpoint under their GGUF names with PyTorch's order of dimensions.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Arrays are kept by element kind; integers of every width become int64.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

class Gguf {
 public:
  // Errors: kNotFound, kIo, kInvalidFile (damaged, hostile), kUnsupported (v1, big endian, an unknown type).
  static Result<Gguf> open(const std::string& path);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  bool has(const std::string& key) const { return metadata_.contains(key); }
  // Null if the key is absent or of another type.
  template <typename T>
  const T* find(const std::string& key) const {
    const auto it = metadata_.find(key);
    return it == metadata_.end() ? nullptr : std::get_if<T>(&it->second);
  }

 private:
  Checkpoint checkpoint_;
  std::map<std::string, GgufValue> metadata_;
};

// The directory of a file in memory; public for fuzzing.
struct GgufDirectory {
  std::map<std::string, GgufValue> metadata;
  std::vector<TensorInfo> tensors;
};
Result<GgufDirectory> parse_gguf(std::span<const std::byte> file, const std::string& name);

}  // namespace linnet::convert
