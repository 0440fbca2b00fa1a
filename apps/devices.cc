// linnet inspect --devices: the GPUs that --backend vulkan can use.
#include "apps/devices.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/common.h"
#include "backends/vulkan/vulkan.h"

namespace linnet::app {

int list_devices(bool json) {
  const auto devices = vulkan_devices();
  if (!devices) return complain(devices.error());
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (size_t i = 0; i < devices->size(); ++i) {
    const VulkanDevice& d = (*devices)[i];
    if (json) {
      all.push_back({{"number", i},
                     {"name", d.name},
                     {"kind", d.kind},
                     {"driver", d.driver},
                     {"vulkan", d.api},
                     {"usable", d.usable},
                     {"memory_bytes", d.memory_bytes},
                     {"binding_bytes", d.binding_bytes},
                     {"allocation_bytes", d.allocation_bytes},
                     {"workgroup_threads", d.workgroup_threads},
                     {"shared_bytes", d.shared_bytes},
                     {"subgroup", d.subgroup},
                     {"features", d.features},
                     {"quirks", d.quirks}});
      continue;
    }
    std::printf("%zu  %s (%s)%s\n", i, d.name.c_str(), d.kind.c_str(),
                d.usable ? "" : ", NOT USABLE: needs Vulkan 1.1 and a compute queue");
    std::printf("   driver %s, Vulkan %s\n", d.driver.c_str(), d.api.c_str());
    std::printf("   memory %s; one binding %s, one allocation %s\n", human_bytes(d.memory_bytes).c_str(),
                human_bytes(d.binding_bytes).c_str(), human_bytes(d.allocation_bytes).c_str());
    std::printf("   groups of %u threads, subgroups of %u, %s of shared memory\n", d.workgroup_threads,
                d.subgroup, human_bytes(d.shared_bytes).c_str());
    for (const std::string& feature : d.features) std::printf("   has %s\n", feature.c_str());
    for (const std::string& quirk : d.quirks) std::printf("   note: %s\n", quirk.c_str());
  }
  if (json) std::printf("%s\n", all.dump(2).c_str());
  return kOk;
}

}  // namespace linnet::app
