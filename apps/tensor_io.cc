#include "apps/tensor_io.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "converter/readers/safetensors.h"
#include "runtime/core/strings.h"

namespace linnet::app {
namespace {

using convert::Encoding;

template <typename T>
Result<std::vector<std::byte>> to_i32(const convert::TensorInfo& info) {
  const auto n = static_cast<size_t>(info.elements());
  std::vector<std::byte> bytes(n * sizeof(int32_t));
  for (size_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, info.bytes.data() + i * sizeof(T), sizeof(T));
    if (static_cast<int64_t>(value) < std::numeric_limits<int32_t>::min() ||
        static_cast<int64_t>(value) > std::numeric_limits<int32_t>::max())
      return fail(ErrorCode::kInvalidArgument,
                  strf("tensor '{}' holds {} at {}, which does not fit in 32 bits", info.name,
                       static_cast<int64_t>(value), i));
    const auto narrow = static_cast<int32_t>(value);
    std::memcpy(bytes.data() + i * sizeof(int32_t), &narrow, sizeof(narrow));
  }
  return bytes;
}

Result<Tensor> to_tensor(const convert::Checkpoint& checkpoint, const convert::TensorInfo& info) {
  Tensor tensor;
  tensor.shape = info.shape;
  tensor.dtype = DType::kI32;
  switch (info.encoding) {
    case Encoding::kI64: {
      LINNET_ASSIGN(tensor.bytes, to_i32<int64_t>(info));
      return tensor;
    }
    case Encoding::kI32: {
      LINNET_ASSIGN(tensor.bytes, to_i32<int32_t>(info));
      return tensor;
    }
    case Encoding::kI16: {
      LINNET_ASSIGN(tensor.bytes, to_i32<int16_t>(info));
      return tensor;
    }
    case Encoding::kI8: {
      LINNET_ASSIGN(tensor.bytes, to_i32<int8_t>(info));
      return tensor;
    }
    case Encoding::kU8:
    case Encoding::kBool: {
      LINNET_ASSIGN(tensor.bytes, to_i32<uint8_t>(info));
      return tensor;
    }
    default:
      break;
  }
  tensor.dtype = DType::kF32;
  tensor.bytes.resize(static_cast<size_t>(info.elements()) * sizeof(float));
  LINNET_TRY(checkpoint.read_f32(info, 0, info.rows(), reinterpret_cast<float*>(tensor.bytes.data())));
  return tensor;
}

}  // namespace

Result<Tensors> read_tensors(const std::string& path) {
  convert::Checkpoint checkpoint;
  LINNET_TRY(convert::read_safetensors(path, checkpoint));
  Tensors tensors;
  for (const auto& [name, info] : checkpoint.tensors()) {
    LINNET_ASSIGN(tensors[name], to_tensor(checkpoint, info));
  }
  return tensors;
}

Result<void> write_tensors(const std::string& path, const Tensors& tensors, bool replace) {
  std::vector<convert::OutputTensor> outputs;
  for (const auto& [name, tensor] : tensors)
    outputs.push_back({name, tensor.dtype == DType::kI32 ? "I32" : "F32", tensor.shape, tensor.bytes});
  return convert::write_safetensors(path, outputs, {}, replace);
}

}  // namespace linnet::app
