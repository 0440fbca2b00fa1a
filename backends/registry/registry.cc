#include "backends/registry/registry.h"

#include <array>
#include <vector>

#include "runtime/core/strings.h"

namespace linnet {

#define LINNET_BACKEND(name) const BackendFactory& name##_factory();
#include "backends/registry/backends.def"

namespace {

std::string one_of(const std::vector<std::string_view>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 < names.size() ? ", " : " or ";
    text += names[i];
  }
  return text;
}

}  // namespace

std::span<const BackendFactory* const> backends() {
  static const std::array all = {
#define LINNET_BACKEND(name) &name##_factory(),
#include "backends/registry/backends.def"
  };
  return all;
}

const BackendFactory* backend_named(std::string_view name) {
  for (const BackendFactory* factory : backends())
    if (factory->name == name) return factory;
  return nullptr;
}

std::string backend_names() {
  std::vector<std::string_view> names;
  for (const BackendFactory* factory : backends()) names.push_back(factory->name);
  return one_of(names);
}

std::string backend_names(BackendKind kind) {
  std::vector<std::string_view> names;
  for (const BackendFactory* factory : backends())
    if (factory->kind == kind) names.push_back(factory->name);
  return one_of(names);
}

Result<std::shared_ptr<const Backend>> open_backend(std::string_view name, const BackendOptions& options) {
  const BackendFactory* factory = backend_named(name);
  if (!factory)
    return fail(ErrorCode::kInvalidArgument,
                strf("there is no backend '{}': choose {}", name, backend_names()));
  if (factory->kind != BackendKind::kDevice && !options.device.empty())
    return fail(ErrorCode::kInvalidArgument,
                strf("the backend '{}' has no devices to choose from: '{}' needs the backend {}", name,
                     options.device, backend_names(BackendKind::kDevice)));
  return factory->open(options);
}

}  // namespace linnet
