#include "converter/readers/rows.h"

namespace linnet::convert {
namespace {

// The precision that says what a stored encoding says, or close to it: what "as stored" means.
std::optional<DType> nearest(Encoding encoding) {
  switch (encoding) {
    case Encoding::kF16:
      return DType::kF16;
    case Encoding::kBF16:
    case Encoding::kF8E4M3:
    case Encoding::kF8E5M2:
      return DType::kBF16;  // holds every FP8 number
    case Encoding::kQ5_0:
    case Encoding::kQ5_1:
    case Encoding::kQ5_K:
    case Encoding::kQ6_K:
    case Encoding::kQ8_0:
      return DType::kQ8;
    case Encoding::kQ4_0:
      return DType::kQ4;
    case Encoding::kQ4_1:
    case Encoding::kQ2_K:
    case Encoding::kQ3_K:
    case Encoding::kQ4_K:
    case Encoding::kIQ4_NL:
    case Encoding::kIQ4_XS:
    case Encoding::kMXFP4:
      return DType::kQ4A;
    default:
      return DType::kF32;
  }
}

class CheckpointRows final : public RowSource {
 public:
  CheckpointRows(const Checkpoint& checkpoint, const TensorInfo& tensor)
      : checkpoint_(checkpoint), tensor_(tensor) {
    rows = tensor.rows();
    columns = tensor.columns();
    name = tensor.name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return checkpoint_.read_f32(tensor_, begin, count, out);
  }
  std::optional<DType> lossless() const override { return Checkpoint::lossless_dtype(tensor_); }
  Result<void> read_groups(int64_t begin, int64_t count, std::byte* out) const override {
    return checkpoint_.read_groups(tensor_, begin, count, out);
  }
  std::optional<DType> stored() const override { return nearest(tensor_.encoding); }

 private:
  const Checkpoint& checkpoint_;
  const TensorInfo& tensor_;
};

}  // namespace

Rows checkpoint_rows(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return std::make_shared<CheckpointRows>(checkpoint, tensor);
}

}  // namespace linnet::convert
