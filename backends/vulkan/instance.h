// The Vulkan loader: instances and what they know of devices.
#pragma once

#include <vulkan/vulkan.h>

#include <vector>

#include "backends/vulkan/cooperative_matrix.h"
#include "backends/vulkan/vulkan.h"

namespace linnet::vulkan {

struct Physical {
  VkPhysicalDevice handle;
  VkPhysicalDeviceProperties properties;
  VkDriverId driver = VK_DRIVER_ID_MAX_ENUM;
  uint32_t family = 0;  // of a queue that computes
  uint32_t clock_bits = 0;
  double clock_ns = 0;  // of a tick
  // What the device reports of kVulkanAbilities, and whether it says that they are fast.
  bool integer_dot = false, fast_integer_dot = false, fp16 = false, subgroup_arithmetic = false;
  uint32_t shuffles = 0;        // Abilities::shuffles
  MatrixUnit matrix_unit;       // none, or not with these headers and this glslc: m of 0
  size_t import_alignment = 0;  // 0: host memory cannot be imported
  VulkanDevice info;
};

// Errors: kUnsupported without a loader, a driver or the layer.
Result<VkInstance> create_instance(bool validation);
Result<std::vector<Physical>> physical_devices(VkInstance instance);
// The device that the user's words mean. Errors: kNotFound, listing what there is.
Result<Physical> choose_device(const std::vector<Physical>& devices, const std::string& wanted);

}  // namespace linnet::vulkan
