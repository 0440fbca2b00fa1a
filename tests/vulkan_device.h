// The Vulkan device that tests run on, with the validation layer where it is installed. LINNET_TEST_VULKAN=0
// leaves it out; =1 makes a missing device, a missing layer and a build without the backend failures; =only
// too, and it leaves out the CPU where a test compares both with the reference.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

#include "backends/vulkan/vulkan.h"
#include "tests/compare.h"

namespace linnet::testing {

inline std::string_view vulkan_wish() {
  const char* value = std::getenv("LINNET_TEST_VULKAN");
  const std::string_view wish = value ? value : "";
  const bool known = wish.empty() || wish == "0" || wish == "1" || wish == "only";
  REQUIRE_MESSAGE(known, "LINNET_TEST_VULKAN is neither 0, 1 nor only: ", std::string(wish));
  return wish;
}
inline bool vulkan_required() { return vulkan_wish() == "1" || vulkan_wish() == "only"; }

// For a test that needs the device and has none: skipped, or failed where the environment requires it. Null.
inline std::nullptr_t no_vulkan(const std::string& why) {
  if (vulkan_required()) FAIL("LINNET_TEST_VULKAN: ", why);
  skipped("no Vulkan: " + why);
  return nullptr;
}

// The options of every test: validation, without which it is said or, where a device is required, an error.
inline Result<std::unique_ptr<VulkanBackend>> open_test_vulkan(VulkanOptions options = {}) {
  options.validation = true;
  auto backend = create_vulkan_backend(options);
  if (backend || vulkan_required() || backend.error().message.find("layer") == std::string::npos)
    return backend;
  skipped("validation of Vulkan: " + backend.error().message);
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

// Null where there is none, which counts as a skip of the running test. Lives as long as the process: drivers
// do not survive being unloaded among the destructors of static objects.
inline const VulkanBackend* vulkan_test_backend() {
  struct Opened {
    const VulkanBackend* backend = nullptr;
    std::string error;
  };
  static const Opened opened = []() -> Opened {
    if (vulkan_wish() == "0") return {nullptr, "LINNET_TEST_VULKAN=0"};
    auto made = open_test_vulkan();
    if (!made) return {nullptr, made.error().message};
    return {made->release(), ""};
  }();
  return opened.backend ? opened.backend : no_vulkan(opened.error);
}

// Fails if the validation layer has said anything to this backend, with what it said.
inline void check_silent(const VulkanBackend& backend) {
  for (const std::string& message : backend.validation_messages()) FAIL_CHECK("validation layer: ", message);
}

// Fails if it has said anything to vulkan_test_backend() since the last call.
inline void check_vulkan_messages() {
  static size_t seen = 0;
  const VulkanBackend* backend = vulkan_test_backend();
  if (!backend) return;  // said
  const auto messages = backend->validation_messages();
  for (; seen < messages.size(); ++seen) FAIL_CHECK("validation layer: ", messages[seen]);
}

}  // namespace linnet::testing
