// The safetensors container: u64 header length, JSON header, tensor bytes. Reading is bounded and complete
// (duplicate keys, overlaps, extents, dtypes, shape products); writing is beside and renamed.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Adds a file's tensors to `checkpoint`. Errors: kNotFound, kIo, kInvalidFile; all name file and tensor.
Result<void> read_safetensors(const std::string& path, Checkpoint& checkpoint);
// The header's tensors over a file in memory; `name` is for messages. Public for fuzzing.
Result<std::vector<TensorInfo>> parse_safetensors(std::span<const std::byte> file, const std::string& name);

struct OutputTensor {
  std::string name;
  std::string dtype;  // "F32", "I32", "I64", ...
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};
Result<void> write_safetensors(const std::string& path, std::span<const OutputTensor> tensors,
                               std::span<const std::pair<std::string, std::string>> metadata = {});

}  // namespace linnet::convert
