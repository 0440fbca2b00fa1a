// VK_EXT_subgroup_size_control: subgroups of a compute shader that are whole and as large as asked for.
#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>

namespace linnet::vulkan {

// The sizes that can be asked for, and how many such subgroups a workgroup may have. `most` of 0: none can.
struct SubgroupSizes {
  uint32_t smallest = 0, largest = 0, most = 0;
  bool allow(uint32_t size) const { return most > 0 && size >= smallest && size <= largest; }
};
// Of a device that reports the extension.
SubgroupSizes subgroup_sizes(VkPhysicalDevice device);

}  // namespace linnet::vulkan
