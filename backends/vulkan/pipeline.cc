// Pipelines of a device: one for each shader and set of specialisation constants, made when first needed.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "backends/vulkan/device.h"
#include "backends/vulkan/shaders.h"
#include "format/output_file.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kPushBytes = 128;  // what every device has

std::vector<std::byte> read_file(const std::string& path) {
  std::vector<std::byte> bytes;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) return bytes;
  std::byte block[1 << 14];
  for (size_t n; (n = std::fread(block, 1, sizeof(block), file)) > 0;)
    bytes.insert(bytes.end(), block, block + n);
  std::fclose(file);
  return bytes;
}

}  // namespace

// What another driver or device wrote, or is damaged, counts as empty. A file that does not begin as a cache
// does is somebody's, and not ours to replace.
Result<void> Device::load_pipeline_cache() {
  LINNET_TRY(format::check_cache(options_.pipeline_cache));
  std::vector<std::byte> bytes = read_file(options_.pipeline_cache);
  VkPhysicalDeviceProperties properties;
  vkGetPhysicalDeviceProperties(physical_, &properties);
  struct {
    uint32_t bytes, version, vendor, device;
    uint8_t uuid[VK_UUID_SIZE];
  } header{};
  const uint32_t beginning[2] = {sizeof(header), VK_PIPELINE_CACHE_HEADER_VERSION_ONE};
  if (!bytes.empty() && std::memcmp(bytes.data(), beginning, std::min(bytes.size(), sizeof(beginning))) != 0)
    return fail(ErrorCode::kInvalidArgument,
                strf("'{}' is not a cache of compiled shaders: name another file, or remove it",
                     options_.pipeline_cache));
  if (bytes.size() >= sizeof(header)) std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.bytes != sizeof(header) || header.version != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
      header.vendor != properties.vendorID || header.device != properties.deviceID ||
      std::memcmp(header.uuid, properties.pipelineCacheUUID, VK_UUID_SIZE) != 0)
    bytes.clear();
  VkPipelineCacheCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
  create.initialDataSize = bytes.size();
  create.pInitialData = bytes.data();
  LINNET_TRY(may_make("the cache of shaders"));
  if (vkCreatePipelineCache(device_, &create, nullptr, &cache_) == VK_SUCCESS) return {};
  create.initialDataSize = 0;
  if (vkCreatePipelineCache(device_, &create, nullptr, &cache_) != VK_SUCCESS) cache_ = VK_NULL_HANDLE;
  return {};
}

// Only a convenience: a file that cannot be written costs the next start some compilation.
void Device::save_pipeline_cache() const {
  if (!cache_) return;
  size_t bytes = 0;
  if (vkGetPipelineCacheData(device_, cache_, &bytes, nullptr) != VK_SUCCESS || bytes == 0) return;
  std::vector<std::byte> data(bytes);
  if (vkGetPipelineCacheData(device_, cache_, &bytes, data.data()) != VK_SUCCESS) return;
  data.resize(bytes);
  static_cast<void>(format::write_file(options_.pipeline_cache, {data}, {}));
}

Result<VkPipelineLayout> Device::layout(uint32_t bindings, VkDescriptorSetLayout& set) {
  if (const auto found = layouts_.find(bindings); found != layouts_.end()) {
    set = found->second.first;
    return found->second.second;
  }
  std::vector<VkDescriptorSetLayoutBinding> slots(bindings);
  for (uint32_t i = 0; i < bindings; ++i)
    slots[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  VkDescriptorSetLayoutCreateInfo create_set{};
  create_set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
  create_set.bindingCount = bindings;
  create_set.pBindings = slots.data();
  LINNET_TRY(may_make("describing bindings"));
  LINNET_VK(vkCreateDescriptorSetLayout(device_, &create_set, nullptr, &set), "describing bindings");
  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes};
  VkPipelineLayoutCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
  create.setLayoutCount = 1;
  create.pSetLayouts = &set;
  create.pushConstantRangeCount = 1;
  create.pPushConstantRanges = &push;
  VkPipelineLayout made = VK_NULL_HANDLE;
  Result<void> fine = may_make("describing bindings");
  if (fine)
    if (const VkResult result = vkCreatePipelineLayout(device_, &create, nullptr, &made);
        result != VK_SUCCESS)
      fine = vk_error(result, "describing bindings");
  if (!fine) {
    vkDestroyDescriptorSetLayout(device_, set, nullptr);
    return std::unexpected(std::move(fine).error());
  }
  layouts_[bindings] = {set, made};
  return made;
}

Result<Pipeline> Device::pipeline(std::string_view shader, std::span<const uint32_t> constants,
                                  uint32_t bindings) {
  const std::lock_guard lock(pipeline_mutex_);
  auto& by_shader = pipelines_[std::vector<uint32_t>(constants.begin(), constants.end())];
  if (const auto found = by_shader.find(shader); found != by_shader.end()) return found->second;
  if (bindings > most_bindings_)
    return fail(ErrorCode::kUnsupported,
                strf("the shader '{}' needs {} buffers, the device '{}' binds at most {}: use --backend cpu",
                     shader, bindings, info_.name, most_bindings_));
  if (constants[0] > info_.workgroup_threads)
    return fail(ErrorCode::kUnsupported, strf("the shader '{}' needs groups of {} threads, the device has {}",
                                              shader, constants[0], info_.workgroup_threads));
  // The compilation for what the device has.
  const auto all = shaders();
  auto code = all.end();
  const auto look_for = [&](const char* suffix) {
    if (code == all.end()) code = std::ranges::find(all, strf("{}{}", shader, suffix), &Shader::name);
    return code != all.end();
  };
  uint32_t subgroup_size = shader == kCooperativeShader ? abilities_.matrix_unit.subgroup : 0;
  if (abilities_.shuffles > 0 && look_for("_shuffle")) subgroup_size = abilities_.shuffles;
  if (abilities_.subgroup_arithmetic) look_for("_subgroup");
  auto module = modules_.find(shader);
  if (module == modules_.end()) {
    if (!look_for("")) return fail(ErrorCode::kInternal, strf("there is no shader '{}'", shader));
    VkShaderModuleCreateInfo create{};
    create.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
    create.codeSize = code->count * sizeof(uint32_t);
    create.pCode = code->words;
    VkShaderModule made = VK_NULL_HANDLE;
    LINNET_TRY(may_make(strf("loading the shader '{}'", shader)));
    LINNET_VK(vkCreateShaderModule(device_, &create, nullptr, &made),
              strf("loading the shader '{}'", shader));
    module = modules_.emplace(std::string(shader), made).first;
  }
  Pipeline out{};
  LINNET_ASSIGN(out.layout, layout(bindings, out.set_layout));
  std::vector<VkSpecializationMapEntry> entries;
  for (uint32_t i = 0; i < constants.size(); ++i)
    entries.push_back({i, i * static_cast<uint32_t>(sizeof(uint32_t)), sizeof(uint32_t)});
  const VkSpecializationInfo special{static_cast<uint32_t>(entries.size()), entries.data(),
                                     constants.size_bytes(), constants.data()};
  VkComputePipelineCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
  create.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  create.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  create.stage.module = module->second;
  create.stage.pName = "main";
  create.stage.pSpecializationInfo = &special;
  create.layout = out.layout;
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT subgroup{};
  if (subgroup_size > 0) {  // as large as that, and whole
    subgroup.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT;
    subgroup.requiredSubgroupSize = subgroup_size;
    create.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
    create.stage.pNext = &subgroup;
  }
  LINNET_TRY(may_make(strf("compiling the shader '{}'", shader)));
  LINNET_VK(vkCreateComputePipelines(device_, cache_, 1, &create, nullptr, &out.pipeline),
            strf("compiling the shader '{}'", shader));
  by_shader.emplace(std::string(shader), out);
  return out;
}

}  // namespace linnet::vulkan
