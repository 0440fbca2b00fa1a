#include "backends/vulkan/device.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "backends/vulkan/instance.h"
#include "backends/vulkan/quirks.h"
#include "backends/vulkan/recorder.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr int64_t kTimeoutMs = 60'000;

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                          VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void* device) {
  static_cast<Device*>(device)->add_message(data->pMessage ? data->pMessage : "");
  return VK_FALSE;
}

}  // namespace

std::unexpected<Error> vk_error(VkResult result, std::string_view doing) {
  switch (result) {
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_TOO_MANY_OBJECTS:
      return fail(ErrorCode::kOutOfMemory,
                  strf("the Vulkan device has no memory left ({}): use a smaller window or chunk, a smaller "
                       "model, or --backend cpu",
                       doing));
    case VK_ERROR_DEVICE_LOST:
      return fail(
          ErrorCode::kInternal,
          strf("the Vulkan device was lost ({}): start again; if it happens again, update its driver or "
               "use --backend cpu",
               doing));
    default:
      return fail(ErrorCode::kInternal,
                  strf("Vulkan failed with code {} ({}): update the driver or use --backend "
                       "cpu",
                       static_cast<int>(result), doing));
  }
}

Result<std::shared_ptr<Device>> Device::open(const VulkanOptions& options) {
  for (const auto* names : {&options.without, &options.even_if_slow})
    for (const std::string& name : *names)
      if (std::ranges::find(kVulkanAbilities, name) == std::end(kVulkanAbilities)) {
        std::string known;
        for (const std::string_view k : kVulkanAbilities) known += strf("{}{}", known.empty() ? "" : ", ", k);
        return fail(
            ErrorCode::kInvalidArgument,
            strf("'{}' is no ability of a Vulkan device that can be switched: there are {}", name, known));
      }
  std::shared_ptr<Device> device(new Device);
  device->options_ = options;
  LINNET_TRY(device->open_instance(options.validation));
  LINNET_TRY(device->choose(options.device));
  LINNET_TRY(device->open_device(options));
  return device;
}

Result<void> Device::open_instance(bool validation) {
  LINNET_TRY(may_make("opening Vulkan"));
  LINNET_ASSIGN(instance_, create_instance(validation));
  if (!validation) return {};
  const auto create = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(
      vkGetInstanceProcAddr(instance_, "vkCreateDebugUtilsMessengerEXT"));
  VkDebugUtilsMessengerCreateInfoEXT info{};
  info.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
  info.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  info.pfnUserCallback = on_message;
  info.pUserData = this;
  LINNET_TRY(may_make("listening to validation"));
  if (create) LINNET_VK(create(instance_, &info, nullptr, &messenger_), "listening to the validation layer");
  return {};
}

Result<void> Device::choose(const std::string& wanted) {
  LINNET_ASSIGN(const std::vector<Physical> devices, physical_devices(instance_));
  LINNET_ASSIGN(const Physical chosen, choose_device(devices, wanted));
  physical_ = chosen.handle;
  info_ = chosen.info;
  family_ = chosen.family;
  vkGetPhysicalDeviceMemoryProperties(physical_, &memory_);
  const VkPhysicalDeviceLimits& limits = chosen.properties.limits;
  most_binding_ = info_.binding_bytes;
  most_allocation_ = info_.allocation_bytes;
  alignment_ = std::max<size_t>(64, static_cast<size_t>(limits.minStorageBufferOffsetAlignment));
  most_bindings_ =
      std::min(limits.maxPerStageDescriptorStorageBuffers, limits.maxDescriptorSetStorageBuffers);
  if (options_.most_binding_bytes > 0) {
    most_binding_ = std::min(most_binding_, options_.most_binding_bytes);
    most_allocation_ = std::min(most_allocation_, options_.most_binding_bytes);
  }
  int64_t timeout = kTimeoutMs;
  for (const Quirk& quirk : quirks())
    if (quirk.timeout_ms > 0 && applies(quirk, chosen.driver, chosen.properties.deviceType))
      timeout = quirk.timeout_ms;
  if (options_.timeout_ms > 0) timeout = options_.timeout_ms;
  timeout_ns_ = static_cast<uint64_t>(timeout) * 1'000'000;
  constexpr auto kUnified = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                            VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
  const bool shares = info_.kind == "integrated" || info_.kind == "cpu";
  for (uint32_t i = 0; i < memory_.memoryTypeCount && shares && !options_.staging; ++i)
    if ((memory_.memoryTypes[i].propertyFlags & kUnified) == kUnified) unified_ = true;
  choose_abilities(chosen);
  return {};
}

void Device::choose_abilities(const Physical& chosen) {
  const auto use = [&](std::string_view name, bool reported, bool fast) {
    if (!reported || std::ranges::find(options_.without, name) != options_.without.end()) return false;
    if (!fast && std::ranges::find(options_.even_if_slow, name) == options_.even_if_slow.end()) return false;
    info_.abilities.emplace_back(name);
    return true;
  };
  abilities_.integer_dot = use("integer_dot", chosen.integer_dot, chosen.fast_integer_dot);
  // No device says how fast its f16 is, and on some it is far slower than f32.
  abilities_.fp16 = use("fp16", chosen.fp16, false);
  // A processor that plays a GPU has no matrix units.
  if (use("cooperative_matrix", static_cast<bool>(chosen.matrix_unit), info_.kind != "cpu"))
    abilities_.matrix_unit = chosen.matrix_unit;
  abilities_.subgroup_arithmetic = use("subgroup_arithmetic", chosen.subgroup_arithmetic, true);
  if (use("subgroup_shuffle", chosen.shuffles > 0, true)) abilities_.shuffles = chosen.shuffles;
  // Tensors lie at multiples of 64 bytes in a file that is mapped in pages. Where a device that does not
  // answer is left alone with the file, a kernel driver has its pages pinned; a processor that plays a GPU
  // would fall over them once the file is closed.
  abilities_.import = use("import",
                          unified_ && import_alignment_ > 0 && alignment_ <= 64 &&
                              import_alignment_ <= static_cast<size_t>(sysconf(_SC_PAGESIZE)),
                          info_.kind != "cpu");
  abilities_.chunks = use("chunks", true, true);
  abilities_.split_keys = use("split_keys", true, true);
  clock_ns_ = chosen.clock_ns;
  clock_mask_ = chosen.clock_bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << chosen.clock_bits) - 1;
  abilities_.profile = options_.profile && clock_mask_ != 0;
}

Result<void> Device::open_device(const VulkanOptions& options) {
  const float priority = 1;
  VkDeviceQueueCreateInfo queue{};
  queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queue.queueFamilyIndex = family_;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  create.queueCreateInfoCount = 1;
  create.pQueueCreateInfos = &queue;
  std::vector<const char*> extensions;
  VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot{};
  dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR;
  dot.shaderIntegerDotProduct = VK_TRUE;
  if (abilities_.integer_dot) {
    extensions.push_back(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    create.pNext = &dot;
  }
  VkPhysicalDeviceShaderFloat16Int8Features half{};
  half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
  half.shaderFloat16 = VK_TRUE;
  MatrixUnitFeatures matrix;
  if (abilities_.matrix_unit) {
    extensions.insert(extensions.end(), std::begin(kMatrixUnitExtensions), std::end(kMatrixUnitExtensions));
    create.pNext = matrix.chain(const_cast<void*>(create.pNext));
  }
  VkPhysicalDeviceSubgroupSizeControlFeaturesEXT subgroup{};
  subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT;
  subgroup.subgroupSizeControl = subgroup.computeFullSubgroups = VK_TRUE;
  if (abilities_.shuffles > 0 || abilities_.matrix_unit) {
    extensions.push_back(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    subgroup.pNext = const_cast<void*>(create.pNext);
    create.pNext = &subgroup;
  }
  if (abilities_.fp16 || abilities_.matrix_unit) {
    extensions.push_back(VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    half.pNext = const_cast<void*>(create.pNext);
    create.pNext = &half;
  }
  if (abilities_.import) extensions.push_back(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  create.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
  create.ppEnabledExtensionNames = extensions.data();
  LINNET_TRY(may_make(strf("opening '{}'", info_.name)));
  LINNET_VK(vkCreateDevice(physical_, &create, nullptr, &device_), strf("opening '{}'", info_.name));
  vkGetDeviceQueue(device_, family_, 0, &queue_);
  if (!options.pipeline_cache.empty()) LINNET_TRY(load_pipeline_cache());
  return {};
}

// The messenger knows this object, and goes with it even where all else is left alone.
void Device::stop_listening() {
  if (!messenger_) return;
  const auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(
      vkGetInstanceProcAddr(instance_, "vkDestroyDebugUtilsMessengerEXT"));
  if (destroy) destroy(instance_, messenger_, nullptr);
  messenger_ = VK_NULL_HANDLE;
}

Device::~Device() {
  if (device_) {
    if (abandoned()) {
      stop_listening();
      return;
    }
    vkDeviceWaitIdle(device_);
    save_pipeline_cache();
    for (const auto& [constants, by_shader] : pipelines_)
      for (const auto& [name, p] : by_shader) vkDestroyPipeline(device_, p.pipeline, nullptr);
    for (const auto& [name, module] : modules_) vkDestroyShaderModule(device_, module, nullptr);
    for (const auto& [count, layout] : layouts_) {
      vkDestroyPipelineLayout(device_, layout.second, nullptr);
      vkDestroyDescriptorSetLayout(device_, layout.first, nullptr);
    }
    if (cache_) vkDestroyPipelineCache(device_, cache_, nullptr);
    vkDestroyDevice(device_, nullptr);
  }
  stop_listening();
  if (instance_) vkDestroyInstance(instance_, nullptr);
}

int Device::memory_type(uint32_t allowed, MemoryKind kind) const {
  constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                  kVisible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                  kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
  // Best first; what the last asks for is there on every device.
  std::vector<VkMemoryPropertyFlags> wishes;
  if (kind == MemoryKind::kDevice)
    wishes =
        unified_ ? std::vector{kLocal | kVisible | kCached} : std::vector{kLocal, VkMemoryPropertyFlags{0}};
  else if (kind == MemoryKind::kReadBack)
    wishes = {kVisible | kCached, kVisible};
  else
    wishes = {kVisible};
  for (const VkMemoryPropertyFlags wish : wishes)
    for (uint32_t i = 0; i < memory_.memoryTypeCount; ++i)
      if ((allowed >> i & 1) && (memory_.memoryTypes[i].propertyFlags & wish) == wish)
        return static_cast<int>(i);
  return -1;
}

Result<void> Device::may_make(std::string_view what) {
  const uint64_t number = allocations_.fetch_add(1);
  if (options_.fail_allocation >= 0 && number == static_cast<uint64_t>(options_.fail_allocation))
    return vk_error(VK_ERROR_OUT_OF_DEVICE_MEMORY, what);
  return {};
}

Result<Buffer> Device::buffer(size_t bytes, MemoryKind kind, std::string_view what) {
  const std::string doing = strf("{} bytes for {}", bytes, what);
  if (options_.most_memory_bytes > 0 && device_bytes_ + bytes > options_.most_memory_bytes)
    return vk_error(VK_ERROR_OUT_OF_DEVICE_MEMORY, doing);
  LINNET_TRY(may_make(doing));
  Buffer out;
  out.device_ = shared_from_this();
  out.bytes_ = std::max<size_t>(bytes, 64);
  VkBufferCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  create.size = out.bytes_;
  create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  create.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  LINNET_VK(vkCreateBuffer(device_, &create, nullptr, &out.buffer_), doing);
  VkMemoryRequirements need;
  vkGetBufferMemoryRequirements(device_, out.buffer_, &need);
  const int type = memory_type(need.memoryTypeBits, kind);
  if (type < 0) return fail(ErrorCode::kUnsupported, strf("the device has no kind of memory for {}", what));
  VkMemoryAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  allocate.allocationSize = need.size;
  allocate.memoryTypeIndex = static_cast<uint32_t>(type);
  LINNET_TRY(may_make(doing));
  LINNET_VK(vkAllocateMemory(device_, &allocate, nullptr, &out.memory_), doing);
  device_bytes_.fetch_add(out.bytes_);
  LINNET_VK(vkBindBufferMemory(device_, out.buffer_, out.memory_, 0), doing);
  if (kind != MemoryKind::kDevice || unified_) {
    void* host = nullptr;
    LINNET_TRY(may_make(doing));
    LINNET_VK(vkMapMemory(device_, out.memory_, 0, VK_WHOLE_SIZE, 0, &host), doing);
    out.host_ = static_cast<std::byte*>(host);
  }
  return out;
}

Result<Buffer> Device::import(std::span<const std::byte> memory) {
  constexpr std::string_view kDoing = "using the model file in place";
  constexpr auto kHandle = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  // Vulkan takes no pointer to constants; shaders only read through this buffer.
  void* const host = const_cast<std::byte*>(memory.data());
  const auto ask = reinterpret_cast<PFN_vkGetMemoryHostPointerPropertiesEXT>(
      vkGetDeviceProcAddr(device_, "vkGetMemoryHostPointerPropertiesEXT"));
  if (!ask) return fail(ErrorCode::kUnsupported, "the driver lacks vkGetMemoryHostPointerPropertiesEXT");
  VkMemoryHostPointerPropertiesEXT kinds{};
  kinds.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT;
  LINNET_VK(ask(device_, kHandle, host, &kinds), kDoing);
  Buffer out;
  out.device_ = shared_from_this();
  out.bytes_ = memory.size();
  out.imported_ = true;
  VkExternalMemoryBufferCreateInfo external{};
  external.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO;
  external.handleTypes = kHandle;
  VkBufferCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  create.pNext = &external;
  create.size = out.bytes_;
  create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
  create.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  LINNET_TRY(may_make(kDoing));
  LINNET_VK(vkCreateBuffer(device_, &create, nullptr, &out.buffer_), kDoing);
  VkMemoryRequirements need;
  vkGetBufferMemoryRequirements(device_, out.buffer_, &need);
  const uint32_t allowed = need.memoryTypeBits & kinds.memoryTypeBits;
  if (allowed == 0 || need.size > memory.size())
    return fail(ErrorCode::kUnsupported, "the driver does not take this memory");
  VkImportMemoryHostPointerInfoEXT imported{};
  imported.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT;
  imported.handleType = kHandle;
  imported.pHostPointer = host;
  VkMemoryAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  allocate.pNext = &imported;
  allocate.allocationSize = memory.size();
  allocate.memoryTypeIndex = static_cast<uint32_t>(std::countr_zero(allowed));
  LINNET_TRY(may_make(kDoing));
  LINNET_VK(vkAllocateMemory(device_, &allocate, nullptr, &out.memory_), kDoing);
  imported_bytes_.fetch_add(out.bytes_);
  LINNET_VK(vkBindBufferMemory(device_, out.buffer_, out.memory_, 0), kDoing);
  return out;
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  release();
  device_ = std::move(other.device_);
  buffer_ = std::exchange(other.buffer_, VK_NULL_HANDLE);
  memory_ = std::exchange(other.memory_, VK_NULL_HANDLE);
  host_ = std::exchange(other.host_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  imported_ = other.imported_;
  return *this;
}

void Buffer::release() {
  if (!device_) return;
  if (!device_->abandoned()) {
    if (buffer_) vkDestroyBuffer(device_->device_, buffer_, nullptr);
    if (memory_) {
      vkFreeMemory(device_->device_, memory_, nullptr);  // unmaps
      (imported_ ? device_->imported_bytes_ : device_->device_bytes_).fetch_sub(bytes_);
    }
  }
  buffer_ = VK_NULL_HANDLE;
  memory_ = VK_NULL_HANDLE;
  device_.reset();
}

Result<void> Device::submit(VkCommandBuffer commands, VkFence fence) {
  if (lost_) return vk_error(VK_ERROR_DEVICE_LOST, "before this run");
  const uint64_t number = submits_.fetch_add(1);
  if (options_.lose_at_submit >= 0 && number >= static_cast<uint64_t>(options_.lose_at_submit)) {
    lost_ = true;
    return vk_error(VK_ERROR_DEVICE_LOST, "submitting a run");
  }
  LINNET_VK(vkResetFences(device_, 1, &fence), "preparing a run");
  VkSubmitInfo info{};
  info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  info.commandBufferCount = 1;
  info.pCommandBuffers = &commands;
  VkResult result;
  {
    const std::lock_guard lock(queue_mutex_);
    result = vkQueueSubmit(queue_, 1, &info, fence);
  }
  if (result == VK_SUCCESS) result = vkWaitForFences(device_, 1, &fence, VK_TRUE, timeout_ns_);
  if (result == VK_SUCCESS) return {};
  if (result == VK_TIMEOUT) {
    lost_ = true;
    return fail(
        ErrorCode::kInternal,
        strf("the Vulkan device '{}' did not finish a run within {} seconds and counts as lost: use a "
             "smaller chunk or --backend cpu",
             info_.name, timeout_ns_ / 1'000'000'000));
  }
  if (result == VK_ERROR_DEVICE_LOST) lost_ = true;
  return vk_error(result, "running");
}

void Device::count_run(const RecordCounts& counts) {
  runs_.fetch_add(1);
  dispatches_.fetch_add(counts.dispatches);
  barriers_.fetch_add(counts.barriers);
  weight_bytes_.fetch_add(counts.weight_bytes);
  read_bytes_.fetch_add(counts.read_bytes);
}

void Device::count_host(uint64_t written, uint64_t read) {
  written_bytes_.fetch_add(written);
  read_bytes_.fetch_add(read);
}

DeviceCounts Device::counts() const {
  return {runs_,          submits_,      dispatches_,     barriers_,    weight_bytes_, read_bytes_,
          written_bytes_, device_bytes_, imported_bytes_, allocations_, recordings_};
}

void Device::count_node(const DeviceNodeTime& time) {
  const std::lock_guard lock(profile_mutex_);
  for (DeviceNodeTime& t : profile_) {
    if (t.node != time.node || t.method != time.method) continue;
    t.runs += time.runs;
    t.seconds += time.seconds;
    return;
  }
  profile_.push_back(time);
}
std::vector<DeviceNodeTime> Device::profile() const {
  const std::lock_guard lock(profile_mutex_);
  return profile_;
}

std::vector<std::string> Device::messages() const {
  const std::lock_guard lock(message_mutex_);
  return messages_;
}
void Device::add_message(std::string text) {
  const std::lock_guard lock(message_mutex_);
  messages_.push_back(std::move(text));
}

Result<std::shared_ptr<void>> Device::shared(uint64_t key,
                                             const std::function<Result<std::shared_ptr<void>>()>& make) {
  const std::lock_guard lock(shared_mutex_);
  if (auto held = shared_[key].lock()) return held;
  LINNET_ASSIGN(std::shared_ptr<void> made, make());
  shared_[key] = made;
  return made;
}

}  // namespace linnet::vulkan
