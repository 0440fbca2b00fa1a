#include "backends/vulkan/cooperative_matrix.h"

#include <algorithm>
#include <vector>

#include "backends/vulkan/product.h"
#include "backends/vulkan/queries.h"
#include "backends/vulkan/shaders.h"

namespace linnet::vulkan {

#ifdef VK_KHR_cooperative_matrix

namespace {

bool has_features(VkPhysicalDevice device) {
  MatrixUnitFeatures found;
  VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, found.chain(nullptr), {}};
  vkGetPhysicalDeviceFeatures2(device, &features);
  return found.all();
}

bool in_compute_shaders(VkPhysicalDevice device) {
  const auto matrix = properties_of<VkPhysicalDeviceCooperativeMatrixPropertiesKHR>(
      device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
  return matrix.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
}

bool fits(const VkCooperativeMatrixPropertiesKHR& p) {
  return p.AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p.BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
         p.CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p.ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
         p.scope == VK_SCOPE_SUBGROUP_KHR && !p.saturatingAccumulation && kTiledTokens % p.MSize == 0 &&
         kTiledOutputs % p.NSize == 0 && kTiledInputs % p.KSize == 0;
}

}  // namespace

MatrixUnit find_matrix_unit(VkInstance instance, VkPhysicalDevice device, uint32_t subgroup) {
  if (std::ranges::find(shaders(), kCooperativeShader, &Shader::name) == shaders().end()) return {};
  if (kTiledThreads % subgroup != 0 || !has_features(device) || !in_compute_shaders(device)) return {};
  const auto list = reinterpret_cast<PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR>(
      vkGetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"));
  uint32_t count = 0;
  if (!list || list(device, &count, nullptr) != VK_SUCCESS) return {};
  VkCooperativeMatrixPropertiesKHR empty{};
  empty.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
  std::vector<VkCooperativeMatrixPropertiesKHR> units(count, empty);
  if (list(device, &count, units.data()) != VK_SUCCESS) return {};
  units.resize(count);
  MatrixUnit best;
  for (const VkCooperativeMatrixPropertiesKHR& p : units)
    if (fits(p) && p.MSize * p.NSize * p.KSize > best.m * best.n * best.k)
      best = {p.MSize, p.NSize, p.KSize, subgroup};
  return best;
}

void* MatrixUnitFeatures::chain(void* next) {
  memory_model_.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES;
  memory_model_.pNext = next;
  // The scope of atomics, which other shaders have: once the model is on it must be too.
  memory_model_.vulkanMemoryModel = memory_model_.vulkanMemoryModelDeviceScope = VK_TRUE;
  matrix_.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR;
  matrix_.pNext = &memory_model_;
  matrix_.cooperativeMatrix = VK_TRUE;
  return &matrix_;
}

bool MatrixUnitFeatures::all() const {
  return matrix_.cooperativeMatrix && memory_model_.vulkanMemoryModel &&
         memory_model_.vulkanMemoryModelDeviceScope;
}

#else

MatrixUnit find_matrix_unit(VkInstance, VkPhysicalDevice, uint32_t) { return {}; }
void* MatrixUnitFeatures::chain(void* next) { return next; }
bool MatrixUnitFeatures::all() const { return false; }

#endif

}  // namespace linnet::vulkan
