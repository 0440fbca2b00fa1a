#include "converter/checkpoint_tensors.h"

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

class CheckpointTensors final : public TensorSet {
 public:
  CheckpointTensors(std::shared_ptr<const Checkpoint> checkpoint, StoredScales scales, PackedWeights packed,
                    std::string origin)
      : checkpoint_(std::move(checkpoint)),
        scales_(std::move(scales)),
        packed_(std::move(packed)),
        origin_(std::move(origin)) {}
  bool has(const std::string& name) const override {
    return packed_.matrices().contains(name) || (checkpoint_->find(name) && !packed_.is_part(name));
  }
  std::vector<int64_t> shape(const std::string& name) const override {
    if (const auto it = packed_.matrices().find(name); it != packed_.matrices().end())
      return it->second.shape;
    const TensorInfo* tensor = checkpoint_->find(name);
    return tensor ? tensor->shape : std::vector<int64_t>{};
  }
  Result<Rows> rows(const std::string& name) const override {
    if (const auto it = packed_.matrices().find(name); it != packed_.matrices().end())
      return it->second.rows();
    const TensorInfo* tensor = checkpoint_->find(name);
    if (!tensor) return fail(ErrorCode::kNotFound, strf("'{}' has no tensor '{}'", origin_, name));
    return scaled_rows(*checkpoint_, *tensor, scales_);
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : checkpoint_->tensors())
      if (!is_stored_scale(*checkpoint_, name) && !packed_.is_part(name) &&
          !packed_.matrices().contains(name))
        result.push_back(name);
    for (const auto& [name, matrix] : packed_.matrices()) result.push_back(name);
    return result;
  }
  const std::string& origin() const override { return origin_; }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  StoredScales scales_;
  PackedWeights packed_;
  std::string origin_;
};

class OverlayTensors final : public TensorSet {
 public:
  OverlayTensors(std::unique_ptr<TensorSet> below, std::unique_ptr<TensorSet> above)
      : below_(std::move(below)), above_(std::move(above)) {}
  bool has(const std::string& name) const override { return above_->has(name) || below_->has(name); }
  std::vector<int64_t> shape(const std::string& name) const override { return of(name).shape(name); }
  Result<Rows> rows(const std::string& name) const override { return of(name).rows(name); }
  std::vector<std::string> names() const override {
    std::vector<std::string> result = above_->names();
    for (std::string& name : below_->names())
      if (!above_->has(name)) result.push_back(std::move(name));
    return result;
  }
  const std::string& origin() const override { return below_->origin(); }

 private:
  const TensorSet& of(const std::string& name) const { return above_->has(name) ? *above_ : *below_; }
  std::unique_ptr<TensorSet> below_, above_;
};

}  // namespace

std::unique_ptr<TensorSet> checkpoint_tensors(std::shared_ptr<const Checkpoint> checkpoint,
                                              StoredScales scales, PackedWeights packed, std::string origin) {
  return std::make_unique<CheckpointTensors>(std::move(checkpoint), std::move(scales), std::move(packed),
                                             std::move(origin));
}
std::unique_ptr<TensorSet> overlay_tensors(std::unique_ptr<TensorSet> below,
                                           std::unique_ptr<TensorSet> above) {
  return std::make_unique<OverlayTensors>(std::move(below), std::move(above));
}

}  // namespace linnet::convert
