// Files for the readers' tests: temporary folders, and containers assembled by hand so that they can be
// wrong.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "converter/readers/checkpoint.h"
#include "linnet/result.h"
#include "tests/contains.h"

namespace linnet::testing {

inline std::string golden(const std::string& name) { return std::string(LINNET_GOLDEN) + "/readers/" + name; }

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "linnet-test-XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  // Writes a file and returns its path.
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
inline std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// A whole tensor as f32.
inline std::vector<float> values(const convert::Checkpoint& checkpoint, const convert::TensorInfo& tensor) {
  std::vector<float> result(static_cast<size_t>(tensor.elements()));
  REQUIRE(checkpoint.read_f32(tensor, 0, tensor.rows(), result.data()));
  return result;
}

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// A safetensors file with the given header text and data.
inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw<uint64_t>(header.size()) + std::string(header) + std::string(data);
}

// A GGUF file, part by part. Kinds are the format's numbers: 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array,
// 10 u64.
struct GgufBytes {
  uint32_t version = 3;
  std::string keys, entries, data;
  uint64_t key_count = 0, tensor_count = 0;
  uint64_t alignment = 32;

  static std::string text(std::string_view value) { return raw<uint64_t>(value.size()) + std::string(value); }
  GgufBytes& key(std::string_view name, uint32_t kind, std::string_view value) {
    keys += text(name) + raw(kind) + std::string(value);
    ++key_count;
    return *this;
  }
  // Dimensions as GGUF has them, innermost first.
  GgufBytes& tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    entries += text(name) + raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) entries += raw(d);
    entries += raw(type) + raw(offset);
    ++tensor_count;
    return *this;
  }
  std::string bytes() const {
    std::string out = "GGUF" + raw(version) + raw(tensor_count) + raw(key_count) + keys + entries;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

// The message of an error; empty if there is none.
template <typename T>
std::string message(const Result<T>& result) {
  return result ? std::string() : result.error().message;
}

}  // namespace linnet::testing
