#include "backends/vulkan/executable.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/vulkan/largest.h"
#include "format/head.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

// A chat alternates between one token, whole chunks and the rest of a prompt.
constexpr size_t kRecordings = 6;

const std::array<Lower, graph::kOpCount>& lowerings() {
  static const std::array<Lower, graph::kOpCount> table = {{
#define LINNET_OP(pascal, snake, equation) lower_##snake(),
#include "runtime/graph/ops.def"
#undef LINNET_OP
  }};
  return table;
}

bool ends_in_logits(const fb::MethodT& method) {
  if (method.nodes.empty() || method.outputs.empty()) return false;
  const fb::NodeT& last = *method.nodes.back();
  return graph::gives_logits(last) && last.outputs[0] == method.outputs[0];
}

size_t elements_of(const fb::ValueT& value, std::span<const int64_t> symbols) {
  int64_t count = 1;
  for (const fb::Dim& dim : value.shape) count *= graph::dim_value(dim, symbols);
  return static_cast<size_t>(count);
}

}  // namespace

Lower lowering_of(graph::OpKind kind) { return lowerings()[static_cast<size_t>(kind)]; }

VulkanExecutable::VulkanExecutable(std::shared_ptr<Device> device, const Compilation& c)
    : device_(std::move(device)),
      file_(c.file),
      bounds_(c.bounds),
      plan_(c.plan),
      vector_plan_(c.vectors),
      tokens_symbol_(graph::find_symbol(c.file.model(), names::kTokens)) {}

VulkanExecutable::~VulkanExecutable() {
  if (device_->abandoned()) return;
  for (const VkQueryPool clock : clocks_) vkDestroyQueryPool(device_->handle(), clock, nullptr);
}

Result<std::unique_ptr<Executable>> VulkanExecutable::create(std::shared_ptr<Device> device,
                                                             const Compilation& c) {
  std::unique_ptr<VulkanExecutable> made(new VulkanExecutable(device, c));
  const auto upload = [&]() -> Result<std::shared_ptr<void>> {
    LINNET_ASSIGN(const std::shared_ptr<const Weights> weights, Weights::upload(device, c.file));
    return std::const_pointer_cast<Weights>(weights);
  };
  // Sessions of one open file share its weights.
  const auto key = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&c.file)) ^ c.file.model_id();
  LINNET_ASSIGN(const std::shared_ptr<void> shared, device->shared(key, upload));
  made->weights_ = std::static_pointer_cast<const Weights>(shared);
  LINNET_TRY(made->prepare());
  return made;
}

// The plan's offsets are multiples of 64; a device that wants more gets the same plan with larger steps.
void VulkanExecutable::place_work() {
  const size_t alignment = device_->alignment();
  for (const plan::MethodPlan& method : plan_.methods) {
    std::vector<plan::Buffer> all = method.values;
    all.insert(all.end(), method.scratch.begin(), method.scratch.end());
    size_t bytes = method.work_bytes;
    if (alignment > plan::kAlignment) {
      for (plan::Buffer& b : all)
        if (b.bytes > 0) b.bytes = align_up(b.bytes + plan::kOverread, alignment) - plan::kOverread;
      bytes = plan::place_buffers(all);
      for (size_t i = 0; i < all.size(); ++i)
        all[i].bytes = i < method.values.size() ? method.values[i].bytes
                                                : method.scratch[i - method.values.size()].bytes;
    }
    Method out;
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(method.values.size());
    out.values.assign(all.begin(), middle);
    out.scratch.assign(middle, all.end());
    methods_.push_back(std::move(out));
    work_bytes_ = std::max(work_bytes_, bytes);
  }
}

void VulkanExecutable::place_state() {
  const size_t alignment = device_->alignment();
  size_t offset = 0;
  for (const plan::StatePlan& state : plan_.states) {
    state_offsets_.push_back(offset);
    offset += align_up(state.bytes + 4, alignment);
  }
  state_bytes_ = offset;
}

Result<void> VulkanExecutable::prepare() {
  const fb::ModelT& model = file_.model();
  place_work();
  place_state();
  params_bytes_ = device_->alignment() + 64;
  LINNET_ASSIGN(work_, device_->buffer(work_bytes_, MemoryKind::kDevice, "values"));
  LINNET_ASSIGN(state_, device_->buffer(state_bytes_, MemoryKind::kDevice, "the state"));
  LINNET_ASSIGN(transfer_, Transfer::create(device_));
  descriptors_ = std::make_unique<Descriptors>(device_);
  // A first pass over all nodes finds the angle tables, so that the parameters have their size.
  std::vector<TableUse> uses;
  for (size_t m = 0; m < methods_.size(); ++m) {
    for (size_t n = 0; n < model.methods[m]->nodes.size(); ++n) {
      const NodeShapes shapes = plan::node_shapes(model, bounds_, plan_, m, n, bounds_.symbols);
      Operands at = operands(m, n, uses);
      at.bounds = &shapes;
      Lowering lowering(shapes, at);
      LINNET_TRY(lowering_of(graph::op_kind(at.node->args.type)).run(lowering));
    }
  }
  for (HostTable& table : tables_) {
    table.offset = align_up(params_bytes_, device_->alignment());
    params_bytes_ = table.offset + table.floats * sizeof(float);
  }
  params_bytes_ = align_up(params_bytes_, device_->alignment());
  LINNET_ASSIGN(params_, device_->buffer(params_bytes_, MemoryKind::kDevice, "parameters"));
  size_t most_logits = 0;
  for (size_t m = 0; m < methods_.size(); ++m)
    if (ends_in_logits(*model.methods[m]))
      most_logits = std::max(most_logits, methods_[m].values[output_of(m)].bytes / sizeof(float));
  if (most_logits > 0) {
    LINNET_ASSIGN(largest_, device_->buffer(largest_bytes(most_logits), MemoryKind::kDevice, "choices"));
  }
  if (!device_->unified()) {
    size_t in = params_bytes_, out = 0;
    for (size_t m = 0; m < methods_.size(); ++m) {
      const auto cross = [&](const std::vector<int>& values, std::vector<Crossing>& crossings,
                             size_t& offset) {
        for (const int value : values) {
          if (stays(m, static_cast<size_t>(value))) continue;
          const size_t bytes = methods_[m].values[static_cast<size_t>(value)].bytes;
          crossings.push_back({static_cast<size_t>(value), offset, bytes});
          offset += align_up(bytes, 64);
        }
      };
      cross(model.methods[m]->inputs, methods_[m].inputs, in);
      cross(model.methods[m]->outputs, methods_[m].outputs, out);
    }
    read_back_largest_ = out;
    if (most_logits > 0) out += kMostRanked * sizeof(Ranked);
    LINNET_ASSIGN(host_, device_->buffer(in, MemoryKind::kHost, "inputs"));
    LINNET_ASSIGN(read_back_, device_->buffer(out, MemoryKind::kReadBack, "outputs"));
    std::memset(host_.host(), 0, in);
  }
  LINNET_ASSIGN(commands_, Commands::create(device_, kRecordings + 1));
  recordings_.resize(kRecordings);
  if (device_->abilities().profile) {
    size_t nodes = 0;
    for (const auto& method : model.methods) nodes = std::max(nodes, method->nodes.size());
    ticks_.resize(nodes + 1);
    for (size_t i = 0; i < kRecordings; ++i) {
      VkQueryPoolCreateInfo create{};
      create.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO;
      create.queryType = VK_QUERY_TYPE_TIMESTAMP;
      create.queryCount = static_cast<uint32_t>(nodes + 1);
      VkQueryPool pool = VK_NULL_HANDLE;
      LINNET_TRY(device_->may_make("clocks"));
      LINNET_VK(vkCreateQueryPool(device_->handle(), &create, nullptr, &pool), "clocks");
      clocks_.push_back(pool);
    }
  }
  // Everything a run can need is made now: pipelines and bindings do not depend on the symbols' values,
  // except that a single token takes ways of its own.
  for (size_t m = 0; m < methods_.size(); ++m) {
    std::vector<int64_t> symbols = bounds_.symbols;
    LINNET_TRY(recording(m, symbols, {}));
    if (ends_in_logits(*model.methods[m])) {
      const auto elements = methods_[m].values[output_of(m)].bytes / sizeof(float);
      Recording most;
      most.method = m;
      most.symbols = symbols;
      most.largest = {output_of(m), elements, std::min(elements, kMostRanked)};
      LINNET_TRY(record(kRecordings, most, 0, model.methods[m]->nodes.size()));
    }
    if (tokens_symbol_ < 0 || symbols[static_cast<size_t>(tokens_symbol_)] == 1) continue;
    symbols[static_cast<size_t>(tokens_symbol_)] = 1;
    LINNET_TRY(recording(m, symbols, {}));
  }
  if (vector_plan_.elements.empty() && vector_plan_.values.empty()) return {};
  return make_vectors();
}

Result<void> VulkanExecutable::make_vectors() {
  std::vector<Region> values;
  for (const VectorSlice& v : vector_plan_.values)
    values.push_back(value_region(static_cast<size_t>(v.method), v.index));
  LINNET_ASSIGN(vectors_, DeviceVectors::create(device_, *descriptors_, vector_plan_, values));
  return {};
}

bool VulkanExecutable::stays(size_t method, size_t value) const {
  return std::ranges::any_of(vector_plan_.values, [&](const VectorSlice& v) {
    return v.method == static_cast<int>(method) && v.index == value;
  });
}

Operands VulkanExecutable::operands(size_t method, size_t node, std::vector<TableUse>& uses) {
  const fb::NodeT& source = *file_.model().methods[method]->nodes[node];
  Operands at;
  at.device = device_.get();
  at.node = &source;
  at.weights = weights_.get();
  const auto value = [&](int index) {
    return index < 0 ? Region() : value_region(method, static_cast<size_t>(index));
  };
  for (const int i : source.inputs) at.in.push_back(value(i));
  for (const int i : source.outputs) at.out.push_back(value(i));
  for (const int i : source.states) {
    const auto s = static_cast<size_t>(i);
    at.states.push_back(
        state_.region(state_offsets_[s], align_up(std::max<size_t>(plan_.states[s].bytes, 4), 4)));
  }
  const plan::Buffer& scratch = methods_[method].scratch[node];
  at.scratch = work_.region(scratch.offset, scratch.bytes);
  at.params = params_.region(0, 64);
  at.nowhere = params_.region(device_->alignment(), 64);
  at.halves = format::half_products(*file_.model().methods[method]);
  at.tables = &tables_;
  at.uses = &uses;
  return at;
}

Result<void> VulkanExecutable::record(size_t commands, Recording& r, size_t first, size_t last) {
  const size_t m = r.method;
  const fb::ModelT& model = file_.model();
  const Method& method = methods_[m];
  LINNET_TRY(commands_.begin(commands, false));
  const VkCommandBuffer to = commands_[commands];
  full_barrier(to);
  if (!device_->unified()) {
    const auto copy = [&](size_t from, const Buffer& target, size_t offset, size_t bytes) {
      const VkBufferCopy region{from, offset, bytes};
      if (bytes > 0) vkCmdCopyBuffer(to, host_.handle(), target.handle(), 1, &region);
    };
    copy(0, params_, 0, params_bytes_);
    for (const Crossing& c : method.inputs)
      if (first == 0) copy(c.host_offset, work_, method.values[c.value].offset, c.bytes);
    full_barrier(to);
  }
  Recorder recorder(*device_, *descriptors_, to);
  const VkQueryPool clock = clocks(commands);
  const auto tick = [&](size_t n) {
    if (clock)
      vkCmdWriteTimestamp(to, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, clock, static_cast<uint32_t>(n - first));
  };
  if (clock) vkCmdResetQueryPool(to, clock, 0, static_cast<uint32_t>(last - first + 1));
  for (size_t n = first; n < last; ++n) {
    tick(n);
    const NodeShapes bounds = plan::node_shapes(model, bounds_, plan_, m, n, bounds_.symbols);
    Operands at = operands(m, n, r.uses);
    at.bounds = &bounds;
    Lowering lowering(plan::node_shapes(model, bounds_, plan_, m, n, r.symbols), at);
    Result<void> added = lowering_of(graph::op_kind(at.node->args.type)).run(lowering);
    for (const Dispatch& dispatch : lowering.dispatches())
      if (added) added = recorder.add(dispatch);
    if (!added) {
      // A command buffer is never left half recorded.
      static_cast<void>(commands_.end(commands));
      return fail(added.error().code, strf("node '{}' on Vulkan: {}", at.node->name, added.error().message));
    }
  }
  tick(last);
  const Result<void> outputs = record_outputs(to, r, recorder);
  LINNET_TRY(commands_.end(commands));
  LINNET_TRY(outputs);
  device_->count_recording();
  return {};
}

Region VulkanExecutable::value_region(size_t method, size_t value) const {
  const plan::Buffer& buffer = methods_[method].values[value];
  return work_.region(buffer.offset, align_up(std::max<size_t>(buffer.bytes, 4), 4));
}

Result<void> VulkanExecutable::record_outputs(VkCommandBuffer to, Recording& r, Recorder& recorder) {
  const fb::MethodT& source = *file_.model().methods[r.method];
  const Method& method = methods_[r.method];
  if (r.largest.count > 0) {
    const FindLargest find =
        find_largest(value_region(r.method, r.largest.value), largest_, r.largest.elements, r.largest.count);
    for (const Dispatch& dispatch : find.dispatches) LINNET_TRY(recorder.add(dispatch));
    r.found = find.result;
  }
  r.counts = recorder.counts();
  full_barrier(to);
  const auto copy = [&](const Buffer& from, size_t offset, size_t host_offset, size_t bytes) {
    const VkBufferCopy region{offset, host_offset, bytes};
    if (bytes > 0) vkCmdCopyBuffer(to, from.handle(), read_back_.handle(), 1, &region);
  };
  for (const int output : source.outputs) {
    const auto value = static_cast<size_t>(output);
    if (stays(r.method, value) || (r.largest.count > 0 && value == r.largest.value)) continue;
    const size_t bytes = elements_of(*source.values[value], r.symbols) * sizeof(float);
    r.counts.read_bytes += bytes;
    for (const Crossing& c : method.outputs)
      if (c.value == value) copy(work_, method.values[value].offset, c.host_offset, bytes);
  }
  r.counts.read_bytes += r.found.bytes;
  if (!device_->unified()) {
    copy(largest_, r.found.offset, read_back_largest_, r.found.bytes);
    full_barrier(to);
  }
  return {};
}

Result<size_t> VulkanExecutable::recording(size_t method, std::span<const int64_t> symbols,
                                           const Largest& largest) {
  size_t oldest = 0;
  for (size_t i = 0; i < recordings_.size(); ++i) {
    const Recording& r = recordings_[i];
    if (r.filled && r.method == method && r.largest == largest && std::ranges::equal(r.symbols, symbols))
      return i;
    if (r.last_used < recordings_[oldest].last_used) oldest = i;
  }
  Recording& r = recordings_[oldest];
  r.filled = false;
  r.method = method;
  r.symbols.assign(symbols.begin(), symbols.end());
  r.largest = largest;
  r.found = {};
  r.last_used = ++uses_;
  r.uses.clear();
  LINNET_TRY(record(oldest, r, 0, file_.model().methods[method]->nodes.size()));
  r.filled = true;
  return oldest;
}

Result<void> VulkanExecutable::write_parameters(int64_t position, const std::vector<TableUse>& uses) {
  if (position < 0 || position > (int64_t{1} << 30))
    return fail(ErrorCode::kUnsupported, "more than 2^30 tokens: reset the session or use --backend cpu");
  std::byte* to = device_->unified() ? params_.host() : host_.host();
  const auto start = static_cast<uint32_t>(position);
  std::memcpy(to, &start, sizeof(start));
  for (const TableUse& use : uses)
    use.fill(position, reinterpret_cast<float*>(to + tables_[use.table].offset));
  return {};
}

Result<void> VulkanExecutable::run(size_t method, std::span<const int64_t> symbols, int64_t position) {
  LINNET_TRY(replay(method, symbols, position, {}));
  return {};
}

Result<const VulkanExecutable::Recording*> VulkanExecutable::replay(size_t method,
                                                                    std::span<const int64_t> symbols,
                                                                    int64_t position,
                                                                    const Largest& largest) {
  LINNET_ASSIGN(const size_t index, recording(method, symbols, largest));
  Recording& r = recordings_[index];
  LINNET_TRY(write_parameters(position, r.uses));
  r.last_used = ++uses_;
  left_method_ = method;
  left_value_ = largest.count > 0 ? static_cast<int>(largest.value) : -1;
  LINNET_TRY(commands_.submit(index));
  device_->count_run(r.counts);
  LINNET_TRY(count_times(index, r));
  return &r;
}

Result<bool> VulkanExecutable::run_for_largest(size_t method, std::span<const int64_t> symbols,
                                               int64_t position, size_t value, size_t elements,
                                               std::span<Ranked> best) {
  if (!largest_ || !ends_in_logits(*file_.model().methods[method]) || value != output_of(method) ||
      elements * sizeof(float) > methods_[method].values[value].bytes || best.empty() ||
      best.size() > std::min(elements, kMostRanked))
    return fail(ErrorCode::kInvalidArgument, "the largest of logits can be asked for, and of nothing else");
  LINNET_ASSIGN(const Recording* r, replay(method, symbols, position, {value, elements, best.size()}));
  const std::byte* found =
      largest_.host() ? largest_.host() + r->found.offset : read_back_.host() + read_back_largest_;
  std::memcpy(best.data(), found, best.size_bytes());
  return std::isfinite(best[0].value);
}

Result<void> VulkanExecutable::count_times(size_t commands, const Recording& r) {
  const VkQueryPool clock = clocks(commands);
  if (!clock) return {};
  const fb::MethodT& method = *file_.model().methods[r.method];
  const auto count = static_cast<uint32_t>(method.nodes.size() + 1);
  LINNET_VK(vkGetQueryPoolResults(device_->handle(), clock, 0, count, count * sizeof(uint64_t), ticks_.data(),
                                  sizeof(uint64_t), VK_QUERY_RESULT_64_BIT),
            "reading clocks");
  for (size_t n = 0; n < method.nodes.size(); ++n) {
    const uint64_t ticks = (ticks_[n + 1] - ticks_[n]) & device_->clock_mask();
    device_->count_node({method.name, method.nodes[n]->name,
                         std::string(graph::op_info(graph::op_kind(method.nodes[n]->args.type)).name), 1,
                         static_cast<double>(ticks) * device_->clock_ns() * 1e-9});
  }
  return {};
}

Result<int> VulkanExecutable::first_non_finite(size_t m, std::span<const int64_t> symbols, int64_t position) {
  const fb::MethodT& method = *file_.model().methods[m];
  Recording one;
  one.method = m;
  one.symbols.assign(symbols.begin(), symbols.end());
  for (size_t n = 0; n < method.nodes.size(); ++n) {
    one.uses.clear();
    LINNET_TRY(record(kRecordings, one, n, n + 1));
    LINNET_TRY(write_parameters(position, one.uses));
    LINNET_TRY(commands_.submit(kRecordings));
    for (const int output : method.nodes[n]->outputs) {
      const fb::ValueT& value = *method.values[static_cast<size_t>(output)];
      if (value.dtype != fb::DType::F32) continue;
      std::vector<float> values(elements_of(value, symbols));
      LINNET_TRY(transfer_.read(work_, methods_[m].values[static_cast<size_t>(output)].offset,
                                std::as_writable_bytes(std::span(values))));
      if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); })) return static_cast<int>(n);
    }
  }
  return -1;
}

Result<void> VulkanExecutable::out_of_range(size_t given, size_t planned) const {
  return fail(ErrorCode::kInvalidArgument, strf("{} bytes do not fit a value of {}", given, planned));
}

Result<void> VulkanExecutable::write_value(size_t m, size_t value, std::span<const std::byte> bytes) {
  const plan::Buffer& buffer = methods_[m].values[value];
  if (bytes.size() > buffer.bytes) return out_of_range(bytes.size(), buffer.bytes);
  device_->count_host(bytes.size(), 0);
  for (const Crossing& c : methods_[m].inputs) {
    if (c.value != value) continue;
    if (!bytes.empty()) std::memcpy(host_.host() + c.host_offset, bytes.data(), bytes.size());
    return {};
  }
  return transfer_.write(work_, buffer.offset, bytes);
}

Result<void> VulkanExecutable::read_value(size_t m, size_t value, std::span<std::byte> bytes) {
  const plan::Buffer& buffer = methods_[m].values[value];
  if (bytes.size() > buffer.bytes) return out_of_range(bytes.size(), buffer.bytes);
  if (stays(m, value)) device_->count_host(0, bytes.size());
  if (const auto host = host_value(m, value); !host.empty()) {
    if (!bytes.empty()) std::memcpy(bytes.data(), host.data(), bytes.size());
    return {};
  }
  return transfer_.read(work_, buffer.offset, bytes);
}

std::span<const std::byte> VulkanExecutable::host_value(size_t m, size_t value) {
  const plan::Buffer& buffer = methods_[m].values[value];
  if (work_.host()) return {work_.host() + buffer.offset, buffer.bytes};
  if (m == left_method_ && static_cast<int>(value) == left_value_) return {};
  for (const Crossing& c : methods_[m].outputs)
    if (c.value == value) return {read_back_.host() + c.host_offset, c.bytes};
  return {};
}

Result<void> VulkanExecutable::write_vector(size_t vector, std::span<const float> values) {
  return vectors_->write(transfer_, vector, values);
}
Result<void> VulkanExecutable::read_vector(size_t vector, std::span<float> values) {
  return vectors_->read(transfer_, vector, values);
}
Result<bool> VulkanExecutable::apply(std::span<const VectorOp> ops, const Watched& watched) {
  if (!vectors_) return true;  // there is nothing that an operation could take
  return vectors_->apply(ops, watched);
}

Result<void> VulkanExecutable::write_state(std::span<const std::byte> block) {
  for (size_t i = 0; i < plan_.states.size(); ++i)
    LINNET_TRY(transfer_.write(state_, state_offsets_[i],
                               block.subspan(plan_.states[i].offset, plan_.states[i].bytes)));
  return {};
}

Result<void> VulkanExecutable::read_state(std::span<std::byte> block) {
  std::ranges::fill(block, std::byte{0});
  for (size_t i = 0; i < plan_.states.size(); ++i)
    LINNET_TRY(transfer_.read(state_, state_offsets_[i],
                              block.subspan(plan_.states[i].offset, plan_.states[i].bytes)));
  return {};
}

}  // namespace linnet::vulkan
