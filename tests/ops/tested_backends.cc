#include "tests/ops/tested_backends.h"

#include <doctest/doctest.h>

#include <memory>

#include "backends/registry/registry.h"
#include "tests/compare.h"
#include "tests/vulkan_device.h"

namespace linnet::testing {
namespace {

std::vector<const Backend*> find_hosts() {
  std::vector<const Backend*> found;
  for (const BackendFactory* factory : backends()) {
    if (factory->kind != BackendKind::kHost) continue;
    if (factory->forms) {
      const auto forms = factory->forms();
      found.insert(found.end(), forms.begin(), forms.end());
      continue;
    }
    const auto backend = factory->open({});
    REQUIRE_MESSAGE(backend.has_value(), (backend ? std::string() : backend.error().message));
    // Kept for as long as the process lives, as the others.
    found.push_back((new std::shared_ptr<const Backend>(*backend))->get());
  }
  return found;
}

std::vector<const Backend*> find_devices() {
  std::vector<const Backend*> found;
  for (const BackendFactory* factory : backends()) {
    if (factory->kind != BackendKind::kDevice) continue;
    if (factory == &vulkan_factory()) {  // with its validation layer
      if (const Backend* vulkan = vulkan_test_backend()) found.push_back(vulkan);
      continue;
    }
    const auto backend = factory->open({});
    if (backend)
      found.push_back((new std::shared_ptr<const Backend>(*backend))->get());
    else
      skipped(std::string(factory->name) + ": " + backend.error().message);
  }
  return found;
}

}  // namespace

const std::vector<const Backend*>& host_backends() {
  static const std::vector<const Backend*> found = find_hosts();
  return found;
}

const std::vector<const Backend*>& device_backends() {
  static const std::vector<const Backend*> found = find_devices();
  return found;
}

void check_device_messages() { check_vulkan_messages(); }

}  // namespace linnet::testing
