// VK_KHR_cooperative_matrix: the matrix units of a device, where the headers and glslc that Linnet is built
// with know of them.
#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <string_view>

namespace linnet::vulkan {

// One product of matrix units, m x k by k x n in f16 and added in f32, by `subgroup` threads. m of 0: the
// device cannot make the tiles of shaders/linear_cooperative.glsl of it.
struct MatrixUnit {
  uint32_t m = 0, n = 0, k = 0, subgroup = 0;
  explicit operator bool() const { return m > 0; }
};

// The shader that uses them: the one whose subgroups must be whole and as large as said.
inline constexpr std::string_view kCooperativeShader = "linear_tiled_cooperative";

// Extensions that a device must report beside f16 arithmetic and whole subgroups (subgroup_sizes.h), and that
// are then switched on.
inline constexpr const char* kMatrixUnitExtensions[] = {"VK_KHR_cooperative_matrix",
                                                        "VK_KHR_vulkan_memory_model"};

// Of the units that a device with those extensions reports the largest that fits, for subgroups of `subgroup`
// threads, which it must allow.
MatrixUnit find_matrix_unit(VkInstance instance, VkPhysicalDevice device, uint32_t subgroup);

// The features that a device must have and that are then switched on: in the chain of vkCreateDevice, or of
// vkGetPhysicalDeviceFeatures2, which writes what the device has. Outlives the chain, which goes on with
// `next`.
class MatrixUnitFeatures {
 public:
  void* chain(void* next);
  bool all() const;

 private:
#ifdef VK_KHR_cooperative_matrix
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix_{};
  VkPhysicalDeviceVulkanMemoryModelFeatures memory_model_{};
#endif
};

}  // namespace linnet::vulkan
