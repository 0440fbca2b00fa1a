// The Vulkan backend: the ops of the catalogue as compute shaders on any device with Vulkan 1.1. Where the
// SDK is not installed the same functions are there (off/) and say so. vulkan.h appears in no public header.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/result.h"
#include "runtime/engine/backend_factory.h"
#include "runtime/engine/device_meter.h"

namespace linnet {

struct VulkanOptions {
  std::string device;  // a number as vulkan_devices() counts, part of a name, or empty: the fastest kind
  std::string pipeline_cache;  // a file that keeps compiled shaders between runs; empty: none
  bool validation = false;     // the Khronos validation layer with synchronisation validation, for tests
  int64_t timeout_ms = 0;      // of one run; 0: by the kind of device. Past it the device counts as lost.
  bool profile = false;        // measures the time of every node: DeviceMeter::profile()
  // Told while weights are copied to the device: bytes done and in all.
  std::function<void(uint64_t, uint64_t)> progress;
  // Optional abilities (kVulkanAbilities) that are not used although the device reports them, and ones that
  // are used although they do not pay on it.
  std::vector<std::string> without, even_if_slow;
  // For tests of limits and faults; 0 and -1: off.
  uint64_t most_binding_bytes = 0;  // pretend that maxStorageBufferRange and maxMemoryAllocationSize are this
  bool staging = false;             // treat device memory as out of the host's sight
  uint64_t most_memory_bytes = 0;   // pretend that the device has no more memory than this
  // The object or memory (counted from 0 at backend creation) that cannot be made for want of memory.
  int fail_allocation = -1;
  int lose_at_submit = -1;  // the device is lost in this submission
};

// What Linnet uses where the device reports it, beyond Vulkan 1.1, and what every device can: "chunks",
// several tokens of a recurrent layer at a time, and "split_keys", several groups for a query's keys. Each
// has a way around.
inline constexpr std::string_view kVulkanAbilities[] = {
    "integer_dot", "fp16",   "cooperative_matrix", "subgroup_arithmetic", "subgroup_shuffle",
    "import",      "chunks", "split_keys"};

struct VulkanDevice {
  std::string name, driver, kind;  // kind: discrete, integrated, virtual, cpu, other
  std::string api;                 // "1.3.230"
  uint64_t memory_bytes = 0;       // of the largest device-local heap
  uint64_t binding_bytes = 0, allocation_bytes = 0;
  uint32_t workgroup_threads = 0, shared_bytes = 0, subgroup = 0;
  std::vector<std::string> features;   // optional ones that the device reports
  std::vector<std::string> abilities;  // of kVulkanAbilities, those that Linnet uses on it
  std::vector<std::string> quirks;     // what Linnet does differently on it, and why
  bool usable = false;                 // Vulkan 1.1 with a compute queue
};

// Every device the loader knows, usable or not. Errors: kUnsupported without a loader or driver, or in a
// build without Vulkan.
Result<std::vector<VulkanDevice>> vulkan_devices();

class VulkanBackend : public Backend, public DeviceMeter {
 public:
  const DeviceMeter* meter() const final { return this; }
  virtual const VulkanDevice& device() const = 0;
  // What the validation layer has said so far.
  virtual std::vector<std::string> validation_messages() const = 0;
};

// Opens a device. One backend serves any number of sessions and threads and must outlive them; sessions of
// one file share its weights on the device. Errors: kInvalidArgument (an ability that is none), kUnsupported
// (no driver, no such device, a validation layer that is not installed), kOutOfMemory, kInternal (the device
// was lost).
Result<std::unique_ptr<VulkanBackend>> create_vulkan_backend(const VulkanOptions& options = {});

// Opens with what the environment variables LINNET_VULKAN_WITHOUT and LINNET_VULKAN_EVEN_IF_SLOW name, "a,b",
// of VulkanOptions. What it opens is a VulkanBackend.
const BackendFactory& vulkan_factory();

}  // namespace linnet
