// The vectors of an executable on the device, and operations on them (runtime/engine/vectors.h).
#pragma once

#include "backends/vulkan/recorder.h"
#include "backends/vulkan/transfer.h"
#include "runtime/engine/vectors.h"

namespace linnet::vulkan {

// All vectors are one binding, so that an operation needs two: them and a value. What they need is made here;
// operations allocate nothing.
class DeviceVectors {
 public:
  // `values`: where the plan's are.
  static Result<DeviceVectors> create(std::shared_ptr<Device> device, Descriptors& descriptors,
                                      const VectorPlan& plan, std::span<const Region> values);

  Result<void> write(Transfer& transfer, size_t vector, std::span<const float> from) const;
  Result<void> read(Transfer& transfer, size_t vector, std::span<float> to) const;
  // One submission, of which the host reads whether all that is watched was finite.
  Result<bool> apply(std::span<const VectorOp> ops, const Watched& watched) const;

 private:
  uint32_t place(const VectorSlice& slice) const;
  VkDescriptorSet set_with(const VectorSlice* value) const;
  // One group for each 64 elements.
  Result<void> record(const Pipeline& pipeline, std::string_view shader, const VectorSlice* value,
                      size_t elements, std::span<const uint32_t> push) const;
  Result<void> watch(const Watched& watched) const;
  Result<void> combine(const VectorOp& op) const;

  std::shared_ptr<Device> device_;
  Buffer buffer_;     // what is said of the watched, then the vectors
  Buffer read_back_;  // only where the host cannot address buffer_
  Commands commands_;
  std::vector<size_t> first_;          // where in buffer_ a vector begins, in elements
  std::vector<VectorSlice> values_;    // of the plan
  std::vector<VkDescriptorSet> sets_;  // without a value, then with each
  Pipeline combine_{}, watch_{};
};

}  // namespace linnet::vulkan
