// The Vulkan loader: instances and what they know of devices.
#pragma once

#include <vulkan/vulkan.h>

#include <vector>

#include "backends/vulkan/vulkan.h"

namespace linnet::vulkan {

struct Physical {
  VkPhysicalDevice handle;
  VkPhysicalDeviceProperties properties;
  VkDriverId driver;
  uint32_t family;  // of a queue that computes
  VulkanDevice info;
};

// Errors: kUnsupported without a loader, a driver or the layer.
Result<VkInstance> create_instance(bool validation);
Result<std::vector<Physical>> physical_devices(VkInstance instance);
// The device that the user's words mean. Errors: kNotFound, listing what there is.
Result<Physical> choose_device(const std::vector<Physical>& devices, const std::string& wanted);

}  // namespace linnet::vulkan
