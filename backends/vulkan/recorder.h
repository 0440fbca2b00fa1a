// Turns dispatches into commands: pipelines, descriptor sets, and barriers only where one dispatch needs what
// another has written (or overwrites what another still reads).
#pragma once

#include <map>
#include <vector>

#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {

struct RecordCounts {
  uint64_t dispatches = 0, barriers = 0, weight_bytes = 0;
  uint64_t read_bytes = 0;  // of outputs, for the host
};

// Records so many groups of the bound pipeline, in a line that is folded at the most that every device has.
// `push` comes after the number of groups.
Result<void> record_groups(VkCommandBuffer commands, VkPipelineLayout layout, VkDescriptorSet set,
                           uint64_t groups, std::span<const uint32_t> push, std::string_view shader);

// The descriptor sets of one executable, kept for as long as it lives.
class Descriptors {
 public:
  explicit Descriptors(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  ~Descriptors();
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  Result<VkDescriptorSet> set(VkDescriptorSetLayout layout, const std::vector<Binding>& bindings);

 private:
  std::shared_ptr<Device> device_;
  std::vector<VkDescriptorPool> pools_;
  std::map<std::vector<uint64_t>, VkDescriptorSet> sets_;
};

class Recorder {
 public:
  Recorder(Device& device, Descriptors& descriptors, VkCommandBuffer commands)
      : device_(device), descriptors_(descriptors), commands_(commands) {}
  Result<void> add(const Dispatch& dispatch);
  const RecordCounts& counts() const { return counts_; }

 private:
  bool needs_barrier(const Dispatch& dispatch) const;
  Device& device_;
  Descriptors& descriptors_;
  VkCommandBuffer commands_;
  VkPipeline bound_ = VK_NULL_HANDLE;
  std::vector<Region> reads_, writes_;  // since the last barrier
  RecordCounts counts_;
};

}  // namespace linnet::vulkan
