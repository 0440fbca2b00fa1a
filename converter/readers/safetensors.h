// The safetensors container: u64 header length, JSON header, tensor bytes. Reading checks everything the
// official library checks (bounds, duplicate keys, overlaps, holes, dtypes, shape products); a written file
// comes into being whole or not at all.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Adds a file's tensors to `checkpoint`. Errors: kNotFound, kIo, kInvalidFile (damaged, hostile),
// kUnsupported (a dtype Linnet cannot read); all name file and tensor.
Result<void> read_safetensors(const std::string& path, Checkpoint& checkpoint);
// The tensors of a file in memory, spans of it; `name` is for messages. Public for fuzzing.
Result<std::vector<TensorInfo>> parse_safetensors(std::span<const std::byte> file, const std::string& name);

// One tensor to write; the bytes are little-endian, row-major.
struct OutputTensor {
  std::string name;
  std::string dtype;  // "F32", "I32", "I64", ...
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};
// Through format::OutputFile: a pipe or a character device takes it too; a file that is there is refused
// without `replace`. Errors: kInvalidArgument (a name twice, an unknown dtype, bytes that do not fit the
// shape) and those of the output.
Result<void> write_safetensors(const std::string& path, std::span<const OutputTensor> tensors,
                               std::span<const std::pair<std::string, std::string>> metadata = {},
                               bool replace = true);

}  // namespace linnet::convert
