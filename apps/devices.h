#pragma once

namespace linnet::app {

// Prints the Vulkan devices of this machine; returns an exit code.
int list_devices(bool json);

}  // namespace linnet::app
