#include "backends/vulkan/transfer.h"

#include <algorithm>
#include <cstring>

namespace linnet::vulkan {
namespace {
constexpr size_t kStagingBytes = size_t{4} << 20;
}

Result<Commands> Commands::create(std::shared_ptr<Device> device, uint32_t buffers) {
  Commands out;
  out.device_ = std::move(device);
  const VkDevice handle = out.device_->handle();
  VkCommandPoolCreateInfo pool{};
  pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
  pool.queueFamilyIndex = out.device_->queue_family();
  LINNET_TRY(out.device_->may_make("making a command pool"));
  LINNET_VK(vkCreateCommandPool(handle, &pool, nullptr, &out.pool_), "making a command pool");
  VkCommandBufferAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  allocate.commandPool = out.pool_;
  allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  allocate.commandBufferCount = buffers;
  std::vector<VkCommandBuffer> made(buffers);
  LINNET_TRY(out.device_->may_make("making command buffers"));
  LINNET_VK(vkAllocateCommandBuffers(handle, &allocate, made.data()), "making command buffers");
  out.buffers_ = std::move(made);
  VkFenceCreateInfo fence{};
  fence.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
  LINNET_TRY(out.device_->may_make("making a fence"));
  LINNET_VK(vkCreateFence(handle, &fence, nullptr, &out.fence_), "making a fence");
  return out;
}

Commands& Commands::operator=(Commands&& other) noexcept {
  if (this == &other) return *this;
  release();
  device_ = std::move(other.device_);
  pool_ = std::exchange(other.pool_, VK_NULL_HANDLE);
  fence_ = std::exchange(other.fence_, VK_NULL_HANDLE);
  buffers_ = std::move(other.buffers_);
  return *this;
}

void Commands::release() {
  if (!device_) return;
  if (!device_->abandoned()) {
    if (fence_) vkDestroyFence(device_->handle(), fence_, nullptr);
    if (pool_) vkDestroyCommandPool(device_->handle(), pool_, nullptr);
  }
  pool_ = VK_NULL_HANDLE;
  fence_ = VK_NULL_HANDLE;
  device_.reset();
}

Result<void> Commands::begin(size_t i, bool once) const {
  VkCommandBufferBeginInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  if (once) info.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  LINNET_VK(vkBeginCommandBuffer(buffers_[i], &info), "recording");
  return {};
}
Result<void> Commands::end(size_t i) const {
  LINNET_VK(vkEndCommandBuffer(buffers_[i]), "recording");
  return {};
}

void full_barrier(VkCommandBuffer commands) {
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask =
      VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                          VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT |
                          VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT;
  constexpr VkPipelineStageFlags kStages =
      VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT;
  vkCmdPipelineBarrier(commands, kStages, kStages, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

void shader_barrier(VkCommandBuffer commands) {
  VkMemoryBarrier barrier{};
  barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
  vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                       0, 1, &barrier, 0, nullptr, 0, nullptr);
}

Result<Transfer> Transfer::create(std::shared_ptr<Device> device) {
  Transfer out;
  out.device_ = device;
  if (device->unified()) return out;
  LINNET_ASSIGN(out.commands_, Commands::create(device, 1));
  const size_t bytes = std::min<uint64_t>(kStagingBytes, device->most_allocation());
  LINNET_ASSIGN(out.staging_, device->buffer(bytes, MemoryKind::kReadBack, "copies to the device"));
  return out;
}

Result<void> Transfer::copy(VkBuffer from, size_t from_offset, VkBuffer to, size_t to_offset, size_t bytes) {
  LINNET_TRY(commands_.begin(0, true));
  const VkBufferCopy region{from_offset, to_offset, bytes};
  full_barrier(commands_[0]);
  vkCmdCopyBuffer(commands_[0], from, to, 1, &region);
  full_barrier(commands_[0]);
  LINNET_TRY(commands_.end(0));
  return commands_.submit(0);
}

Result<void> Transfer::write(const Buffer& to, size_t offset, std::span<const std::byte> bytes) {
  if (to.host()) {
    if (!bytes.empty()) std::memcpy(to.host() + offset, bytes.data(), bytes.size());
    return {};
  }
  for (size_t done = 0; done < bytes.size();) {
    const size_t n = std::min(bytes.size() - done, staging_.bytes());
    std::memcpy(staging_.host(), bytes.data() + done, n);
    LINNET_TRY(copy(staging_.handle(), 0, to.handle(), offset + done, n));
    done += n;
  }
  return {};
}

Result<void> Transfer::read(const Buffer& from, size_t offset, std::span<std::byte> bytes) {
  if (from.host()) {
    if (!bytes.empty()) std::memcpy(bytes.data(), from.host() + offset, bytes.size());
    return {};
  }
  for (size_t done = 0; done < bytes.size();) {
    const size_t n = std::min(bytes.size() - done, staging_.bytes());
    LINNET_TRY(copy(from.handle(), offset + done, staging_.handle(), 0, n));
    std::memcpy(bytes.data() + done, staging_.host(), n);
    done += n;
  }
  return {};
}

}  // namespace linnet::vulkan
