// The backends that ops are checked on, whatever the registry (backends/registry) has of them.
#pragma once

#include <string_view>
#include <vector>

#include "runtime/engine/backend.h"

namespace linnet::testing {

// Every form of every backend that runs on this machine's processor, but the one that defines the truth.
const std::vector<const Backend*>& host_backends();

// Backends on devices of their own, as far as this machine has them. A device that is missing is said once,
// and a failure where tests/vulkan_device.h's LINNET_TEST_VULKAN asks for it.
const std::vector<const Backend*>& device_backends();

// Fails if a device's validation has said anything since the last call.
void check_device_messages();

}  // namespace linnet::testing
