#include "backends/vulkan/executable.h"
#include "backends/vulkan/vulkan.h"
#include "runtime/core/strings.h"

namespace linnet {
namespace vulkan {
namespace {

class Backend final : public VulkanBackend {
 public:
  explicit Backend(std::shared_ptr<Device> device)
      : device_(std::move(device)), name_(strf("vulkan ({})", device_->info().name)) {}

  std::string_view name() const override { return name_; }
  bool supports(graph::OpKind kind) const override { return lowering_of(kind).run != nullptr; }
  bool keeps_states_in(DType dtype) const override { return dtype == DType::kF32; }
  size_t scratch_bytes(const fb::ModelT& model, const plan::Bounds& bounds, size_t method, size_t node,
                       const plan::Plan& partial, int) const override {
    const Lower lower = lowering_of(graph::op_kind(model.methods[method]->nodes[node]->args.type));
    return lower.scratch ? lower.scratch(plan::largest_shapes(model, bounds, partial, method, node)) : 0;
  }
  Result<std::unique_ptr<Executable>> compile(const Compilation& compilation) const override {
    if (!keeps_states_in(compilation.bounds.state_dtype))
      return fail(
          ErrorCode::kUnsupported,
          "the Vulkan backend keeps recurrent states in f32: leave the state type out, or use the CPU "
          "backend");
    return VulkanExecutable::create(device_, compilation);
  }
  // The plan's regions once more, on the device, and the weights unless the file is used in place.
  size_t overhead_bytes(const fb::ModelT& model, const plan::Plan& plan, int) const override {
    size_t bytes = plan.work_bytes + plan.state_bytes;
    if (!device_->abilities().import)
      for (const auto& weight : model.weights) bytes += weight->bytes;
    return bytes;
  }

  const VulkanDevice& device() const override { return device_->info(); }
  std::string_view device_name() const override { return device_->info().name; }
  DeviceCounts counts() const override { return device_->counts(); }
  std::vector<DeviceNodeTime> profile() const override { return device_->profile(); }
  std::vector<std::string> validation_messages() const override { return device_->messages(); }

 private:
  std::shared_ptr<Device> device_;
  std::string name_;
};

}  // namespace
}  // namespace vulkan

Result<std::unique_ptr<VulkanBackend>> create_vulkan_backend(const VulkanOptions& options) {
  LINNET_ASSIGN(std::shared_ptr<vulkan::Device> device, vulkan::Device::open(options));
  return std::make_unique<vulkan::Backend>(std::move(device));
}

}  // namespace linnet
