#include "converter/readers/rows.h"

namespace linnet::convert {
namespace {

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
  Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const override {
    return checkpoint_.read_groups(tensor_, begin, count, out);
  }
  std::optional<DType> stored() const override { return encoding_info(tensor_.encoding).nearest; }

 private:
  const Checkpoint& checkpoint_;
  const TensorInfo& tensor_;
};

}  // namespace

Rows checkpoint_rows(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return std::make_shared<CheckpointRows>(checkpoint, tensor);
}

}  // namespace linnet::convert
