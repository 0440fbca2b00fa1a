// How the backend is opened by name; the same whether this build has Vulkan or not.
#include <cstdlib>
#include <sstream>

#include "backends/vulkan/vulkan.h"

namespace linnet {
namespace {

// "a,b": names from the environment.
std::vector<std::string> words(const char* list) {
  std::vector<std::string> names;
  std::istringstream in(list ? list : "");
  for (std::string name; std::getline(in, name, ',');) names.push_back(name);
  return names;
}

Result<std::shared_ptr<const Backend>> open(const BackendOptions& from) {
  VulkanOptions options;
  options.device = from.device;
  options.pipeline_cache = from.compiled_file;
  options.profile = from.profile;
  options.progress = from.progress;
  options.without = words(std::getenv("LINNET_VULKAN_WITHOUT"));
  options.even_if_slow = words(std::getenv("LINNET_VULKAN_EVEN_IF_SLOW"));
  LINNET_ASSIGN(std::unique_ptr<VulkanBackend> backend, create_vulkan_backend(options));
  return std::shared_ptr<const Backend>(std::move(backend));
}

}  // namespace

const BackendFactory& vulkan_factory() {
  static const BackendFactory factory{"vulkan", "a GPU", BackendKind::kDevice, open, nullptr};
  return factory;
}

}  // namespace linnet
