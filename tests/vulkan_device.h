// The Vulkan device that tests run on, with the validation layer where it is installed. LINNET_TEST_VULKAN=0
// leaves it out; =1 makes a missing device a failure; =only leaves out the CPU where a test compares both
// with the reference.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "backends/vulkan/vulkan.h"

namespace linnet::testing {

inline std::string_view vulkan_wish() {
  const char* wish = std::getenv("LINNET_TEST_VULKAN");
  return wish ? wish : "";
}

// The options of every test: validation if the layer is there.
inline Result<std::unique_ptr<VulkanBackend>> open_test_vulkan(VulkanOptions options = {}) {
  options.validation = true;
  auto backend = create_vulkan_backend(options);
  if (backend || backend.error().message.find("layer") == std::string::npos) return backend;
  MESSAGE("without validation: ", backend.error().message);
  options.validation = false;
  return create_vulkan_backend(options);
}

// The device of vulkan_test_backend() anew, with memory out of the host's sight if `staging`.
inline std::unique_ptr<VulkanBackend> staged_vulkan(bool staging) {
  VulkanOptions options;
  options.staging = staging;
  auto backend = open_test_vulkan(options);
  REQUIRE(backend);
  return std::move(*backend);
}

// Null where there is none, said once. Lives as long as the process: drivers do not survive being unloaded
// among the destructors of static objects.
inline const VulkanBackend* vulkan_test_backend() {
  static const VulkanBackend* backend = []() -> const VulkanBackend* {
    if (vulkan_wish() == "0") return nullptr;
    auto made = open_test_vulkan();
    if (made) return made->release();
    if (vulkan_wish() == "1" || vulkan_wish() == "only")
      FAIL_CHECK("LINNET_TEST_VULKAN: ", made.error().message);
    MESSAGE("SKIPPED on Vulkan: ", made.error().message);
    return nullptr;
  }();
  return backend;
}

// Fails if the validation layer has said anything to this backend, with what it said.
inline void check_silent(const VulkanBackend& backend) {
  for (const std::string& message : backend.validation_messages()) FAIL_CHECK("validation layer: ", message);
}

// Fails if it has said anything to vulkan_test_backend() since the last call.
inline void check_vulkan_messages() {
  static size_t seen = 0;
  const VulkanBackend* backend = vulkan_test_backend();
  if (!backend) return;
  const auto messages = backend->validation_messages();
  for (; seen < messages.size(); ++seen) FAIL_CHECK("validation layer: ", messages[seen]);
}

}  // namespace linnet::testing
