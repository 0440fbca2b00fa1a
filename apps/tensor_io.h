// Tensors between files and methods, for `linnet run`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::app {

// A tensor in memory as a method takes it: f32 or i32, row-major.
struct Tensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

// Reads a safetensors file. Floating types become f32 and integers i32; one that does not fit in 32 bits is
// an error naming tensor and place. Errors: kNotFound, kIo, kInvalidFile, kUnsupported (another type).
Result<Tensors> read_tensors(const std::string& path);
// As format::OutputFile writes. Errors: with !replace also kInvalidArgument for a file that is there.
Result<void> write_tensors(const std::string& path, const Tensors& tensors, bool replace);

}  // namespace linnet::app
