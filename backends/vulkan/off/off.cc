// The library linnet_vulkan of a build without Vulkan: the functions of vulkan.h, which say so and why.
#include "backends/vulkan/vulkan.h"
#include "runtime/core/strings.h"

namespace linnet {
namespace {

std::unexpected<Error> off() {
  return fail(
      ErrorCode::kUnsupported,
      strf("the backend 'vulkan' is not built into this linnet ({}): use --backend cpu", LINNET_VULKAN_OFF));
}

}  // namespace

Result<std::vector<VulkanDevice>> vulkan_devices() { return off(); }

Result<std::unique_ptr<VulkanBackend>> create_vulkan_backend(const VulkanOptions&) { return off(); }

}  // namespace linnet
