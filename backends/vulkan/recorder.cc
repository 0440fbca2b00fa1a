#include "backends/vulkan/recorder.h"

#include <algorithm>

#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kSetsPerPool = 128, kMostGroups = 65535, kMostPush = 32;

bool overlap(const Region& a, const Region& b) {
  return a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}
bool any(const std::vector<Region>& regions, const Region& region) {
  return std::ranges::any_of(regions, [&](const Region& other) { return overlap(other, region); });
}
uint64_t number(VkBuffer buffer) { return reinterpret_cast<uint64_t>(buffer); }

}  // namespace

Descriptors::~Descriptors() {
  if (device_->abandoned()) return;
  for (const VkDescriptorPool pool : pools_) vkDestroyDescriptorPool(device_->handle(), pool, nullptr);
}

Result<VkDescriptorSet> Descriptors::set(VkDescriptorSetLayout layout, const std::vector<Binding>& bindings) {
  std::vector<uint64_t> key = {bindings.size()};
  for (const Binding& b : bindings)
    key.insert(key.end(), {number(b.region.buffer), b.region.offset, b.region.bytes});
  if (const auto found = sets_.find(key); found != sets_.end()) return found->second;
  VkDescriptorSetAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
  allocate.descriptorSetCount = 1;
  allocate.pSetLayouts = &layout;
  VkDescriptorSet set = VK_NULL_HANDLE;
  LINNET_TRY(device_->may_make("making room for bindings"));
  VkResult result = VK_ERROR_OUT_OF_POOL_MEMORY;
  if (sets_.size() % kSetsPerPool != 0) {
    allocate.descriptorPool = pools_.back();
    result = vkAllocateDescriptorSets(device_->handle(), &allocate, &set);
  }
  if (result != VK_SUCCESS) {
    const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, kSetsPerPool * 16};
    VkDescriptorPoolCreateInfo create{};
    create.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
    create.maxSets = kSetsPerPool;
    create.poolSizeCount = 1;
    create.pPoolSizes = &size;
    VkDescriptorPool pool = VK_NULL_HANDLE;
    LINNET_TRY(device_->may_make("making room for bindings"));
    LINNET_VK(vkCreateDescriptorPool(device_->handle(), &create, nullptr, &pool), "making room for bindings");
    pools_.push_back(pool);
    allocate.descriptorPool = pool;
    LINNET_VK(vkAllocateDescriptorSets(device_->handle(), &allocate, &set), "making room for bindings");
  }
  std::vector<VkDescriptorBufferInfo> buffers(bindings.size());
  std::vector<VkWriteDescriptorSet> writes(bindings.size());
  for (size_t i = 0; i < bindings.size(); ++i) {
    buffers[i] = {bindings[i].region.buffer, bindings[i].region.offset, bindings[i].region.bytes};
    writes[i].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    writes[i].dstSet = set;
    writes[i].dstBinding = static_cast<uint32_t>(i);
    writes[i].descriptorCount = 1;
    writes[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    writes[i].pBufferInfo = &buffers[i];
  }
  vkUpdateDescriptorSets(device_->handle(), static_cast<uint32_t>(writes.size()), writes.data(), 0, nullptr);
  sets_.emplace(std::move(key), set);
  return set;
}

Result<void> record_groups(VkCommandBuffer commands, VkPipelineLayout layout, VkDescriptorSet set,
                           uint64_t groups, std::span<const uint32_t> push, std::string_view shader) {
  const uint64_t x = std::min<uint64_t>(groups, kMostGroups), y = (groups + x - 1) / x;
  if (push.size() + 1 > kMostPush)
    return fail(ErrorCode::kInternal, strf("the shader '{}' has too many parameters", shader));
  if (y > kMostGroups)
    return fail(ErrorCode::kUnsupported,
                strf("the shader '{}' has too many groups: use a smaller chunk or image", shader));
  std::array<uint32_t, kMostPush> words{};
  words[0] = static_cast<uint32_t>(groups);
  std::ranges::copy(push, words.begin() + 1);
  vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, nullptr);
  vkCmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, static_cast<uint32_t>(sizeof(words)),
                     words.data());
  vkCmdDispatch(commands, static_cast<uint32_t>(x), static_cast<uint32_t>(y), 1);
  return {};
}

bool Recorder::needs_barrier(const Dispatch& dispatch) const {
  return std::ranges::any_of(dispatch.bindings, [&](const Binding& b) {
    return any(writes_, b.region) || (b.writes && any(reads_, b.region));
  });
}

Result<void> Recorder::add(const Dispatch& dispatch) {
  for (const Binding& b : dispatch.bindings)
    if (b.region.bytes > device_.most_binding())
      return fail(
          ErrorCode::kUnsupported,
          strf("an operand of {} bytes is more than the {} that the device '{}' binds: use a smaller chunk, "
               "window or image, or --backend cpu",
               b.region.bytes, device_.most_binding(), device_.info().name));
  LINNET_ASSIGN(const Pipeline pipeline, device_.pipeline(dispatch.shader, dispatch.constants,
                                                          static_cast<uint32_t>(dispatch.bindings.size())));
  LINNET_ASSIGN(const VkDescriptorSet set, descriptors_.set(pipeline.set_layout, dispatch.bindings));
  if (needs_barrier(dispatch)) {
    shader_barrier(commands_);
    reads_.clear();
    writes_.clear();
    ++counts_.barriers;
  }
  for (const Binding& b : dispatch.bindings) (b.writes ? writes_ : reads_).push_back(b.region);
  if (bound_ != pipeline.pipeline) {
    vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.pipeline);
    bound_ = pipeline.pipeline;
  }
  LINNET_TRY(record_groups(commands_, pipeline.layout, set, dispatch.groups, dispatch.push, dispatch.shader));
  ++counts_.dispatches;
  counts_.weight_bytes += dispatch.weight_bytes;
  return {};
}

}  // namespace linnet::vulkan
