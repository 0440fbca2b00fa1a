#include "backends/vulkan/instance.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "backends/vulkan/device.h"
#include "backends/vulkan/product.h"
#include "backends/vulkan/queries.h"
#include "backends/vulkan/quirks.h"
#include "backends/vulkan/subgroup_sizes.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr const char* kLayer = "VK_LAYER_KHRONOS_validation";

bool has_layer() {
  uint32_t count = 0;
  vkEnumerateInstanceLayerProperties(&count, nullptr);
  std::vector<VkLayerProperties> layers(count);
  vkEnumerateInstanceLayerProperties(&count, layers.data());
  return std::ranges::any_of(layers, [](const auto& l) { return std::strcmp(l.layerName, kLayer) == 0; });
}

std::string kind_of(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return "cpu";
    default:
      return "other";
  }
}

int preference(const VulkanDevice& device) {
  const char* const order[] = {"discrete", "integrated", "virtual", "other", "cpu"};
  const auto at = std::ranges::find(order, device.kind);
  return device.usable ? static_cast<int>(at - std::begin(order)) : 100;
}

// Threads of the subgroups that shaders/slices.glsl wants: whole, of the size that the device prefers, and
// eight or more. 0: it cannot have them.
uint32_t shuffling_subgroup(const SubgroupSizes& sizes, const VkPhysicalDeviceSubgroupProperties& subgroup) {
  const uint32_t size = subgroup.subgroupSize;
  const bool fits = (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                    (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT) && sizes.allow(size) &&
                    size >= 8 && kProductThreads % size == 0 && sizes.most >= kProductThreads / size;
  return fits ? size : 0;
}

void add_features(VkInstance instance, VkPhysicalDevice device,
                  const VkPhysicalDeviceSubgroupProperties& subgroup, Physical& p) {
  VulkanDevice& info = p.info;
  uint32_t count = 0;
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr);
  std::vector<VkExtensionProperties> extensions(count);
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data());
  const auto has = [&](const char* name) {
    return std::ranges::any_of(extensions,
                               [&](const auto& e) { return std::strcmp(e.extensionName, name) == 0; });
  };
  for (const char* name : {"VK_KHR_shader_float16_int8", "VK_KHR_16bit_storage", "VK_KHR_8bit_storage",
                           "VK_KHR_shader_integer_dot_product", "VK_KHR_cooperative_matrix",
                           "VK_EXT_subgroup_size_control", "VK_EXT_external_memory_host"})
    if (has(name)) info.features.emplace_back(name);
  if (has("VK_KHR_shader_integer_dot_product")) {
    const auto able = features_of<VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR>(
        device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR);
    const auto fast = properties_of<VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR>(
        device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR);
    p.integer_dot = able.shaderIntegerDotProduct == VK_TRUE;
    p.fast_integer_dot = fast.integerDotProduct4x8BitPackedSignedAccelerated == VK_TRUE;
  }
  if (has("VK_KHR_shader_float16_int8")) {
    const auto able = features_of<VkPhysicalDeviceShaderFloat16Int8Features>(
        device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
    p.fp16 = able.shaderFloat16 == VK_TRUE;
  }
  SubgroupSizes sizes;
  if (has(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME)) sizes = subgroup_sizes(device);
  p.shuffles = shuffling_subgroup(sizes, subgroup);
  if (p.fp16 && sizes.allow(info.subgroup) && std::ranges::all_of(kMatrixUnitExtensions, has))
    p.matrix_unit = find_matrix_unit(instance, device, info.subgroup);
  if (has("VK_EXT_external_memory_host")) {
    const auto host = properties_of<VkPhysicalDeviceExternalMemoryHostPropertiesEXT>(
        device, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
    p.import_alignment = static_cast<size_t>(host.minImportedHostPointerAlignment);
  }
}

Physical describe(VkInstance instance, VkPhysicalDevice handle) {
  Physical p{};
  p.handle = handle;
  vkGetPhysicalDeviceProperties(handle, &p.properties);
  VulkanDevice& info = p.info;
  const uint32_t api = p.properties.apiVersion;
  info.name = p.properties.deviceName;
  info.kind = kind_of(p.properties.deviceType);
  info.api =
      strf("{}.{}.{}", VK_API_VERSION_MAJOR(api), VK_API_VERSION_MINOR(api), VK_API_VERSION_PATCH(api));
  const VkPhysicalDeviceLimits& limits = p.properties.limits;
  info.binding_bytes = limits.maxStorageBufferRange;
  info.workgroup_threads = std::min(limits.maxComputeWorkGroupInvocations, limits.maxComputeWorkGroupSize[0]);
  info.shared_bytes = limits.maxComputeSharedMemorySize;
  VkPhysicalDeviceMemoryProperties memory;
  vkGetPhysicalDeviceMemoryProperties(handle, &memory);
  for (uint32_t i = 0; i < memory.memoryHeapCount; ++i)
    if (memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
      info.memory_bytes = std::max<uint64_t>(info.memory_bytes, memory.memoryHeaps[i].size);
  uint32_t families = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(handle, &families, nullptr);
  std::vector<VkQueueFamilyProperties> family(families);
  vkGetPhysicalDeviceQueueFamilyProperties(handle, &families, family.data());
  bool computes = false;
  // A family without graphics is not shared with the desktop.
  for (const bool alone : {true, false})
    for (uint32_t i = 0; i < families && !computes; ++i)
      if ((family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) && family[i].queueCount > 0 &&
          (!alone || !(family[i].queueFlags & VK_QUEUE_GRAPHICS_BIT))) {
        p.family = i;
        p.clock_bits = family[i].timestampValidBits;
        computes = true;
      }
  info.usable = computes && api >= VK_API_VERSION_1_1;
  if (!info.usable) return p;
  VkPhysicalDeviceMaintenance3Properties sizes{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
                                               nullptr, 0, 0};
  VkPhysicalDeviceSubgroupProperties subgroup{};
  subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES;
  subgroup.pNext = &sizes;
  VkPhysicalDeviceDriverProperties driver{};
  driver.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES;
  if (api >= VK_API_VERSION_1_2) sizes.pNext = &driver;
  VkPhysicalDeviceProperties2 all{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &subgroup, {}};
  vkGetPhysicalDeviceProperties2(handle, &all);
  info.allocation_bytes = sizes.maxMemoryAllocationSize;
  info.subgroup = subgroup.subgroupSize;
  p.clock_ns = static_cast<double>(limits.timestampPeriod);
  p.subgroup_arithmetic = (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                          (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  info.driver = driver.driverName[0] ? strf("{} {}", driver.driverName, driver.driverInfo)
                                     : strf("version {}", p.properties.driverVersion);
  if (driver.driverName[0]) p.driver = driver.driverID;
  add_features(instance, handle, subgroup, p);
  for (const Quirk& quirk : quirks())
    if (applies(quirk, p.driver, p.properties.deviceType)) info.quirks.emplace_back(quirk.reason);
  return p;
}

}  // namespace

Result<VkInstance> create_instance(bool validation) {
  uint32_t version = VK_API_VERSION_1_0;
  if (vkEnumerateInstanceVersion(&version) != VK_SUCCESS || version < VK_API_VERSION_1_1)
    return fail(ErrorCode::kUnsupported,
                "the Vulkan loader is older than 1.1: update it or use --backend cpu");
  if (validation && !has_layer())
    return fail(ErrorCode::kUnsupported,
                strf("the layer {} is not installed (package vulkan-validationlayers)", kLayer));
  VkApplicationInfo app{};
  app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  app.pApplicationName = "linnet";
  app.apiVersion = VK_API_VERSION_1_1;
  const VkValidationFeatureEnableEXT enabled[] = {
      VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
  VkValidationFeaturesEXT features{};
  features.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT;
  features.enabledValidationFeatureCount = 1;
  features.pEnabledValidationFeatures = enabled;
  const char* const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
                                    VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
  VkInstanceCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  create.pApplicationInfo = &app;
  if (validation) {
    create.pNext = &features;
    create.enabledLayerCount = 1;
    create.ppEnabledLayerNames = &kLayer;
    create.enabledExtensionCount = 2;
    create.ppEnabledExtensionNames = extensions;
  }
  VkInstance instance = VK_NULL_HANDLE;
  const VkResult result = vkCreateInstance(&create, nullptr, &instance);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    return fail(
        ErrorCode::kUnsupported,
        "this machine has no Vulkan driver (on Debian, mesa-vulkan-drivers has most): use --backend cpu");
  if (result != VK_SUCCESS) return vk_error(result, "opening Vulkan");
  return instance;
}

Result<std::vector<Physical>> physical_devices(VkInstance instance) {
  uint32_t count = 0;
  LINNET_VK(vkEnumeratePhysicalDevices(instance, &count, nullptr), "counting Vulkan devices");
  std::vector<VkPhysicalDevice> handles(count);
  if (count > 0)
    LINNET_VK(vkEnumeratePhysicalDevices(instance, &count, handles.data()), "listing Vulkan devices");
  if (count == 0)
    return fail(ErrorCode::kUnsupported,
                "this machine has no Vulkan device (on Debian, mesa-vulkan-drivers has most drivers): use "
                "--backend cpu");
  std::vector<Physical> devices;
  for (const VkPhysicalDevice handle : handles) devices.push_back(describe(instance, handle));
  return devices;
}

Result<Physical> choose_device(const std::vector<Physical>& devices, const std::string& wanted) {
  const Physical* best = nullptr;
  std::string known;
  size_t number = 0;
  const auto parsed = std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
  const bool by_number =
      !wanted.empty() && parsed.ec == std::errc() && parsed.ptr == wanted.data() + wanted.size();
  for (size_t i = 0; i < devices.size(); ++i) {
    const VulkanDevice& info = devices[i].info;
    known += strf("{}{}: {}", known.empty() ? "" : ", ", i, info.name);
    const bool meant = by_number ? i == number : info.name.find(wanted) != std::string::npos;
    if (meant && (!best || preference(info) < preference(best->info))) best = &devices[i];
  }
  if (!best)
    return fail(ErrorCode::kNotFound, strf("there is no Vulkan device '{}': there is {}", wanted, known));
  if (!best->info.usable)
    return fail(
        ErrorCode::kUnsupported,
        strf("the device '{}' has Vulkan {}, at least 1.1 with a compute queue is needed: use --backend cpu",
             best->info.name, best->info.api));
  return *best;
}

}  // namespace linnet::vulkan

namespace linnet {

Result<std::vector<VulkanDevice>> vulkan_devices() {
  LINNET_ASSIGN(VkInstance instance, vulkan::create_instance(false));
  auto found = vulkan::physical_devices(instance);
  vkDestroyInstance(instance, nullptr);
  if (!found) return std::unexpected(std::move(found).error());
  std::vector<VulkanDevice> devices;
  for (vulkan::Physical& p : *found) devices.push_back(std::move(p.info));
  return devices;
}

}  // namespace linnet
