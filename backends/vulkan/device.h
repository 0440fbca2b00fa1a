// A Vulkan device with one compute queue, its memory and its pipelines. Everything that a driver can refuse
// goes through here and comes back as an Error.
#pragma once

#include <vulkan/vulkan.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backends/vulkan/cooperative_matrix.h"
#include "backends/vulkan/vulkan.h"
#include "runtime/core/align.h"

namespace linnet::vulkan {

class Device;
struct Physical;
struct RecordCounts;

// "no device memory" and so on, with what was being done. kOutOfMemory for memory, else kInternal.
std::unexpected<Error> vk_error(VkResult result, std::string_view doing);

#define LINNET_VK(expr, doing)                                        \
  do {                                                                \
    if (const VkResult vk_result_ = (expr); vk_result_ != VK_SUCCESS) \
      return ::linnet::vulkan::vk_error(vk_result_, doing);           \
  } while (false)

// A stretch of a buffer, as shaders see an operand.
struct Region {
  VkBuffer buffer = VK_NULL_HANDLE;
  VkDeviceSize offset = 0, bytes = 0;
  explicit operator bool() const { return buffer != VK_NULL_HANDLE; }
};

// A buffer with memory of its own. Mapped for as long as it lives if the host can address it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { release(); }

  explicit operator bool() const { return buffer_ != VK_NULL_HANDLE; }
  VkBuffer handle() const { return buffer_; }
  size_t bytes() const { return bytes_; }
  std::byte* host() const { return host_; }  // null: not addressable
  Region region(size_t offset, size_t bytes) const { return {buffer_, offset, bytes}; }

 private:
  friend class Device;
  void release();
  std::shared_ptr<Device> device_;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
  std::byte* host_ = nullptr;
  size_t bytes_ = 0;
  bool imported_ = false;
};

enum class MemoryKind {
  kDevice,    // fast for shaders; host-addressable only on unified memory
  kHost,      // host-addressable, coherent: what is copied to the device
  kReadBack,  // the same, cached: what the host reads
};

// What Linnet uses beyond Vulkan 1.1 on this device: reported, and not switched off.
struct Abilities {
  bool integer_dot = false;  // VK_KHR_shader_integer_dot_product, where it is fast
  bool fp16 = false;         // VK_KHR_shader_float16_int8, where it was asked for
  MatrixUnit matrix_unit;    // VK_KHR_cooperative_matrix
  bool subgroup_arithmetic = false;
  // VK_EXT_subgroup_size_control: threads of a subgroup that shaders with shuffles ask for
  // (shaders/slices.glsl).
  uint32_t shuffles = 0;
  bool import = false;  // VK_EXT_external_memory_host on unified memory
  bool chunks = false, split_keys = false;
  bool profile = false;
};

struct Pipeline {
  VkPipeline pipeline;
  VkPipelineLayout layout;
  VkDescriptorSetLayout set_layout;
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  static Result<std::shared_ptr<Device>> open(const VulkanOptions& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  VkDevice handle() const { return device_; }
  const VulkanDevice& info() const { return info_; }
  uint32_t queue_family() const { return family_; }
  // The host addresses device memory: values are written and read in place.
  bool unified() const { return unified_; }
  uint64_t most_binding() const { return most_binding_; }
  uint64_t most_allocation() const { return most_allocation_; }
  size_t alignment() const { return alignment_; }  // of offsets in bindings
  uint32_t most_bindings() const { return most_bindings_; }
  uint32_t most_threads() const { return info_.workgroup_threads; }
  uint32_t shared_bytes() const { return info_.shared_bytes; }

  const Abilities& abilities() const { return abilities_; }
  const VulkanOptions& options() const { return options_; }
  double clock_ns() const { return clock_ns_; }
  uint64_t clock_mask() const { return clock_mask_; }

  Result<Buffer> buffer(size_t bytes, MemoryKind kind, std::string_view what);
  // Memory of the host as a buffer, without a copy; for shaders to read. Begins and ends at multiples of
  // import_alignment() and outlives the buffer. A driver may refuse some memory: then it is to be copied.
  Result<Buffer> import(std::span<const std::byte> memory);
  size_t import_alignment() const { return import_alignment_; }
  // Before anything is made on the device: counts, and fails where a test asked for it.
  Result<void> may_make(std::string_view what);
  // `constants`: values of the specialisation constants 0, 1, 2, ...; constant 0 is the threads of a group.
  Result<Pipeline> pipeline(std::string_view shader, std::span<const uint32_t> constants, uint32_t bindings);
  // Runs a recorded command buffer and waits, never for longer than the timeout. Any thread.
  Result<void> submit(VkCommandBuffer commands, VkFence fence);
  bool lost() const { return lost_.load(); }
  // A device that did not answer in time may still use what it was given: nothing of it is ever freed.
  bool abandoned() const { return lost_ && options_.lose_at_submit < 0; }

  DeviceCounts counts() const;
  void count_recording() { recordings_.fetch_add(1); }
  void count_run(const RecordCounts& counts);
  void count_host(uint64_t written, uint64_t read);
  void count_node(const DeviceNodeTime& time);  // adds
  std::vector<DeviceNodeTime> profile() const;
  std::vector<std::string> messages() const;
  void add_message(std::string text);

  // Shared objects by key (the weights of a file): made once, kept while anyone holds them.
  Result<std::shared_ptr<void>> shared(uint64_t key,
                                       const std::function<Result<std::shared_ptr<void>>()>& make);

 private:
  Device() = default;
  friend class Buffer;
  Result<void> open_instance(bool validation);
  Result<void> choose(const std::string& wanted);
  Result<void> open_device(const VulkanOptions& options);
  void choose_abilities(const Physical& chosen);
  Result<void> load_pipeline_cache();
  void save_pipeline_cache() const;
  Result<VkPipelineLayout> layout(uint32_t bindings, VkDescriptorSetLayout& set);
  int memory_type(uint32_t allowed, MemoryKind kind) const;
  void stop_listening();

  VulkanOptions options_;
  VulkanDevice info_;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkPhysicalDeviceMemoryProperties memory_{};
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  VkPipelineCache cache_ = VK_NULL_HANDLE;
  uint32_t family_ = 0, most_bindings_ = 0;
  uint64_t most_binding_ = 0, most_allocation_ = 0, timeout_ns_ = 0;
  size_t alignment_ = 64;
  bool unified_ = false;
  Abilities abilities_;
  size_t import_alignment_ = 0;
  double clock_ns_ = 0;
  uint64_t clock_mask_ = 0;

  std::mutex queue_mutex_, pipeline_mutex_, shared_mutex_;
  mutable std::mutex message_mutex_;
  std::map<uint32_t, std::pair<VkDescriptorSetLayout, VkPipelineLayout>> layouts_;
  std::map<std::string, VkShaderModule, std::less<>> modules_;
  std::map<std::vector<uint32_t>, std::map<std::string, Pipeline, std::less<>>> pipelines_;
  std::map<uint64_t, std::weak_ptr<void>> shared_;
  std::vector<std::string> messages_;
  mutable std::mutex profile_mutex_;
  std::vector<DeviceNodeTime> profile_;
  std::atomic<bool> lost_{false};
  std::atomic<uint64_t> runs_{0}, submits_{0}, dispatches_{0}, barriers_{0}, weight_bytes_{0}, read_bytes_{0},
      written_bytes_{0}, device_bytes_{0}, imported_bytes_{0}, allocations_{0}, recordings_{0};
};

}  // namespace linnet::vulkan
