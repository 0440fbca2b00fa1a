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
  // A file, or any one of the files NAME-00001-of-0000N.gguf of a split model: all are opened. Errors:
  // kNotFound, kIo, kInvalidFile (damaged, hostile, a split file missing), kUnsupported (v1, big endian, an
  // encoding Linnet cannot read).
  static Result<Gguf> open(const std::string& path);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }
  bool has(const std::string& key) const { return metadata_.contains(key); }
  // Null if the key is absent or of another type.
  template <typename T>
  const T* find(const std::string& key) const {
    const auto it = metadata_.find(key);
    return it == metadata_.end() ? nullptr : std::get_if<T>(&it->second);
  }

  // The value of a key that must be there. T is one of GgufValue's types; double also takes an integer.
  // Errors: kInvalidFile, naming file, key, expected and found type.
  template <typename T>
  Result<T> get(const std::string& key) const;
  // The same for a key that may be absent: a wrong type is still an error.
  template <typename T>
  Result<T> get_or(const std::string& key, T absent) const {
    return has(key) ? get<T>(key) : Result<T>(std::move(absent));
  }

 private:
  std::string path_;
  Checkpoint checkpoint_;
  std::map<std::string, GgufValue> metadata_;
};

// The directory of a file in memory; public for fuzzing. The tensors' bytes are spans of `file`.
struct GgufDirectory {
  std::map<std::string, GgufValue> metadata;
  std::vector<TensorInfo> tensors;
};
Result<GgufDirectory> parse_gguf(std::span<const std::byte> file, const std::string& name);

}  // namespace linnet::convert
