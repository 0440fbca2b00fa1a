// Copies between host and device memory, in pieces through a staging buffer where the host cannot address it.
#pragma once

#include <functional>
#include <span>

#include "backends/vulkan/device.h"

namespace linnet::vulkan {

// A command pool with one command buffer and a fence: what one thread needs to talk to the device.
class Commands {
 public:
  static Result<Commands> create(std::shared_ptr<Device> device, uint32_t buffers);
  Commands() = default;
  Commands(Commands&& other) noexcept { *this = std::move(other); }
  Commands& operator=(Commands&& other) noexcept;
  ~Commands() { release(); }

  VkCommandBuffer operator[](size_t i) const { return buffers_[i]; }
  size_t count() const { return buffers_.size(); }
  Result<void> begin(size_t i, bool once) const;
  Result<void> end(size_t i) const;
  Result<void> submit(size_t i) const { return device_->submit(buffers_[i], fence_); }

 private:
  void release();
  std::shared_ptr<Device> device_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkFence fence_ = VK_NULL_HANDLE;
  std::vector<VkCommandBuffer> buffers_;
};

class Transfer {
 public:
  // On unified memory no staging buffer is made.
  static Result<Transfer> create(std::shared_ptr<Device> device);

  Result<void> write(const Buffer& to, size_t offset, std::span<const std::byte> bytes);
  Result<void> read(const Buffer& from, size_t offset, std::span<std::byte> bytes);

 private:
  Result<void> copy(VkBuffer from, size_t from_offset, VkBuffer to, size_t to_offset, size_t bytes);
  std::shared_ptr<Device> device_;
  Commands commands_;
  Buffer staging_;
};

// Everything before it is done and visible to everything after it.
void full_barrier(VkCommandBuffer commands);
// Shaders' writes are visible to shaders.
void shader_barrier(VkCommandBuffer commands);

}  // namespace linnet::vulkan
