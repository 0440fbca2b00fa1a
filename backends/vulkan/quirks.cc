#include "backends/vulkan/quirks.h"

namespace linnet::vulkan {

std::span<const Quirk> quirks() {
  static const Quirk table[] = {
      {"a processor that plays a GPU takes minutes for what a GPU does in a second: a run may take 10 "
       "minutes",
       VK_DRIVER_ID_MAX_ENUM, VK_PHYSICAL_DEVICE_TYPE_CPU, 600'000},
  };
  return table;
}

bool applies(const Quirk& quirk, VkDriverId driver, VkPhysicalDeviceType type) {
  return (quirk.driver == VK_DRIVER_ID_MAX_ENUM || quirk.driver == driver) &&
         (quirk.type == VK_PHYSICAL_DEVICE_TYPE_MAX_ENUM || quirk.type == type);
}

}  // namespace linnet::vulkan
