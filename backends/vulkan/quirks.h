// What Linnet does differently on some devices, each with its reason. One table, nowhere else.
#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <span>
#include <string_view>

namespace linnet::vulkan {

struct Quirk {
  std::string_view reason;    // for a person
  VkDriverId driver;          // VK_DRIVER_ID_MAX_ENUM: any
  VkPhysicalDeviceType type;  // VK_PHYSICAL_DEVICE_TYPE_MAX_ENUM: any
  int64_t timeout_ms;         // of a run; 0: as usual
};
std::span<const Quirk> quirks();
bool applies(const Quirk& quirk, VkDriverId driver, VkPhysicalDeviceType type);

}  // namespace linnet::vulkan
