#include "backends/vulkan/subgroup_sizes.h"

#include "backends/vulkan/queries.h"

namespace linnet::vulkan {

SubgroupSizes subgroup_sizes(VkPhysicalDevice device) {
  const auto able = features_of<VkPhysicalDeviceSubgroupSizeControlFeaturesEXT>(
      device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT);
  const auto sizes = properties_of<VkPhysicalDeviceSubgroupSizeControlPropertiesEXT>(
      device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT);
  if (!able.subgroupSizeControl || !able.computeFullSubgroups ||
      !(sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT))
    return {};
  return {sizes.minSubgroupSize, sizes.maxSubgroupSize, sizes.maxComputeWorkgroupSubgroups};
}

}  // namespace linnet::vulkan
