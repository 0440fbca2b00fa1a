// One structure of what a physical device has (Vulkan 1.1's extensible queries), by itself.
#pragma once

#include <vulkan/vulkan.h>

namespace linnet::vulkan {

template <class Features>
Features features_of(VkPhysicalDevice device, VkStructureType type) {
  Features found{};
  found.sType = type;
  VkPhysicalDeviceFeatures2 all{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &found, {}};
  vkGetPhysicalDeviceFeatures2(device, &all);
  return found;
}

template <class Properties>
Properties properties_of(VkPhysicalDevice device, VkStructureType type) {
  Properties found{};
  found.sType = type;
  VkPhysicalDeviceProperties2 all{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &found, {}};
  vkGetPhysicalDeviceProperties2(device, &all);
  return found;
}

}  // namespace linnet::vulkan
