#include "backends/vulkan/vectors.h"

#include <bit>
#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

// kOfValue as in vectors.glsl; the vectors begin where a cache line does.
constexpr uint32_t kThreads = 64, kOfValue = 0x80000000u;
constexpr size_t kFirst = 64 / sizeof(float);

}  // namespace

Result<DeviceVectors> DeviceVectors::create(std::shared_ptr<Device> device, Descriptors& descriptors,
                                            const VectorPlan& plan, std::span<const Region> values) {
  DeviceVectors made;
  made.device_ = device;
  made.values_ = plan.values;
  size_t elements = kFirst;
  for (const size_t n : plan.elements) {
    made.first_.push_back(elements);
    elements += n;
  }
  const size_t bytes = elements * sizeof(float);
  const auto check = [&](size_t operand, std::string_view what) -> Result<void> {
    if (operand <= device->most_binding()) return {};
    return fail(ErrorCode::kUnsupported,
                strf("{} of {} bytes is more than the {} that the device '{}' binds: use a smaller image or "
                     "--backend cpu",
                     what, operand, device->most_binding(), device->info().name));
  };
  LINNET_TRY(check(bytes, "a sampler's memory"));
  for (const Region& value : values) LINNET_TRY(check(value.bytes, "a value"));
  LINNET_ASSIGN(made.buffer_, device->buffer(bytes, MemoryKind::kDevice, "a sampler's vectors"));
  if (!made.buffer_.host()) {
    LINNET_ASSIGN(made.read_back_,
                  device->buffer(sizeof(uint32_t), MemoryKind::kReadBack, "what is watched"));
  }
  LINNET_ASSIGN(made.commands_, Commands::create(device, 1));
  constexpr uint32_t kBindings = 2;
  LINNET_ASSIGN(made.combine_, device->pipeline("combine", std::span(&kThreads, 1), kBindings));
  LINNET_ASSIGN(made.watch_, device->pipeline("watch", std::span(&kThreads, 1), kBindings));
  const Region vectors = made.buffer_.region(0, bytes);
  std::vector<Region> seconds = {vectors};
  seconds.insert(seconds.end(), values.begin(), values.end());
  for (const Region& second : seconds) {
    LINNET_ASSIGN(const VkDescriptorSet set,
                  descriptors.set(made.combine_.set_layout, {{vectors, true}, {second, true}}));
    made.sets_.push_back(set);
  }
  return made;
}

Result<void> DeviceVectors::write(Transfer& transfer, size_t vector, std::span<const float> from) const {
  device_->count_host(from.size_bytes(), 0);
  return transfer.write(buffer_, first_[vector] * sizeof(float), std::as_bytes(from));
}
Result<void> DeviceVectors::read(Transfer& transfer, size_t vector, std::span<float> to) const {
  device_->count_host(0, to.size_bytes());
  return transfer.read(buffer_, first_[vector] * sizeof(float), std::as_writable_bytes(to));
}

uint32_t DeviceVectors::place(const VectorSlice& slice) const {
  return slice.method < 0 ? static_cast<uint32_t>(first_[slice.index] + slice.first)
                          : static_cast<uint32_t>(slice.first) | kOfValue;
}

VkDescriptorSet DeviceVectors::set_with(const VectorSlice* value) const {
  for (size_t i = 0; value && i < values_.size(); ++i)
    if (values_[i].method == value->method && values_[i].index == value->index) return sets_[i + 1];
  return sets_[0];
}

Result<void> DeviceVectors::record(const Pipeline& pipeline, std::string_view shader,
                                   const VectorSlice* value, size_t elements,
                                   std::span<const uint32_t> push) const {
  if (elements == 0) return {};
  vkCmdBindPipeline(commands_[0], VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.pipeline);
  return record_groups(commands_[0], pipeline.layout, set_with(value), (elements + kThreads - 1) / kThreads,
                       push, shader);
}

Result<void> DeviceVectors::watch(const Watched& watched) const {
  const uint32_t push[] = {static_cast<uint32_t>(watched.elements), place(watched.slice)};
  return record(watch_, "watch", &watched.slice, watched.elements, push);
}

Result<void> DeviceVectors::combine(const VectorOp& op) const {
  struct {
    uint32_t count, terms, gain;
    float constant, limit, slope, offset;
    uint32_t to, gain_of;
    std::array<uint32_t, VectorOp::kMostTerms> from;
    std::array<float, VectorOp::kMostTerms> factor;
  } push{};
  push.count = static_cast<uint32_t>(op.elements);
  push.terms = static_cast<uint32_t>(op.count);
  push.gain = static_cast<uint32_t>(op.gain);
  push.constant = static_cast<float>(op.constant);
  push.limit = op.limit;
  push.slope = static_cast<float>(op.slope);
  push.offset = static_cast<float>(op.offset);
  push.to = place(op.to);
  if (op.gain != VectorOp::Gain::kNone) push.gain_of = place(op.gain_of);
  for (size_t k = 0; k < op.count; ++k) {
    push.from[k] = place(op.terms[k].from);
    push.factor[k] = static_cast<float>(op.terms[k].factor);
  }
  const VectorSlice* value = nullptr;
  for_each_slice(op, [&](const VectorSlice& slice) {
    if (slice.method >= 0) value = &slice;
  });
  using Words = std::array<uint32_t, sizeof(push) / sizeof(uint32_t)>;
  return record(combine_, "combine", value, op.elements, std::bit_cast<Words>(push));
}

Result<bool> DeviceVectors::apply(std::span<const VectorOp> ops, const Watched& watched) const {
  const bool watches = watched.elements > 0;
  LINNET_TRY(commands_.begin(0, true));
  const VkCommandBuffer to = commands_[0];
  full_barrier(to);
  vkCmdFillBuffer(to, buffer_.handle(), 0, sizeof(uint32_t), 0);
  full_barrier(to);
  Result<void> recorded = watch(watched);
  for (const VectorOp& op : ops) {
    shader_barrier(to);
    if (recorded) recorded = combine(op);
  }
  full_barrier(to);
  if (watches && read_back_) {
    const VkBufferCopy region{0, 0, sizeof(uint32_t)};
    vkCmdCopyBuffer(to, buffer_.handle(), read_back_.handle(), 1, &region);
    full_barrier(to);
  }
  LINNET_TRY(commands_.end(0));  // a command buffer is never left half recorded
  LINNET_TRY(recorded);
  LINNET_TRY(commands_.submit(0));
  RecordCounts counts;
  counts.dispatches = ops.size() + (watches ? 1 : 0);
  counts.barriers = ops.size();
  uint32_t bad = 0;
  if (watches) {
    counts.read_bytes = sizeof(bad);
    std::memcpy(&bad, read_back_ ? read_back_.host() : buffer_.host(), sizeof(bad));
  }
  device_->count_run(counts);
  return bad == 0;
}

}  // namespace linnet::vulkan
