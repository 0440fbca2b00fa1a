#include "runtime/plan/plan.h"

#include <algorithm>

#include "format/names.h"
#include "runtime/core/align.h"
#include "runtime/core/checked.h"
#include "runtime/core/dtype_names.h"
#include "runtime/core/strings.h"

namespace linnet::plan {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 48;
// Of all states, or of all values and scratch of a method: sizes up to here can be added without a check.
constexpr size_t kMostPlanned = size_t{1} << 60;

// Bytes of a tensor at the bounds; -1 when a dimension is negative or the product exceeds kMostBytes.
int64_t bounded_elements(const std::vector<fb::Dim>& shape, const std::vector<int64_t>& symbols) {
  int64_t elements = 1;
  for (const fb::Dim& dim : shape) {
    const int64_t n = graph::dim_value(dim, symbols);
    if (n < 0 || (n > 0 && elements > kMostBytes / n)) return -1;
    elements *= n;
  }
  return elements;
}

// What writes to a ring writes a row for each token of the run and no more: the ring has places for those,
// and the position moves on by them.
Result<void> check_ring_rows(const fb::NodeT& node, const fb::MethodT& method, const fb::ModelT& model,
                             const Bounds& bounds) {
  const std::vector<fb::Dim>& shape = method.values[static_cast<size_t>(node.inputs[0])]->shape;
  const int tokens = graph::find_symbol(model, names::kTokens);
  if (graph::find_symbol(model, names::kContext) < 0)
    return fail(ErrorCode::kInvalidFile,
                strf("node '{}' of method '{}' keeps keys and values, and the file has no symbol '{}' that "
                     "bounds them: the file is damaged",
                     node.name, method.name, names::kContext));
  const auto is_tokens = [&](const fb::Dim& rows) {
    if (graph::is_fixed(rows))
      return rows.add() == (tokens < 0 ? 1 : bounds.symbols[static_cast<size_t>(tokens)]);
    return rows.symbol() == tokens && rows.mul() == rows.div() && rows.add() == 0;
  };
  if (shape.size() == 2 && is_tokens(shape[0])) return {};
  return fail(ErrorCode::kInvalidFile,
              strf("node '{}' of method '{}' has {} rows for its keys and values, expected one for each "
                   "token: the file is damaged",
                   node.name, method.name, graph::shape_text(model, shape)));
}

Result<void> plan_states(const fb::ModelT& model, const Bounds& bounds, Plan& plan) {
  plan.states.resize(model.states.size());
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const std::optional<Ring> ring = ring_of(*node, model, bounds);
      if (!ring) continue;
      LINNET_TRY(check_ring_rows(*node, *method, model, bounds));
      for (const int state : node->states) {
        std::optional<Ring>& own = plan.states[static_cast<size_t>(state)].ring;
        if (own && *own != *ring)
          return fail(ErrorCode::kInvalidFile,
                      strf("node '{}' and one before it share the state '{}' but see windows of different "
                           "sizes: the file is damaged",
                           node->name, model.states[static_cast<size_t>(state)]->name));
        own = ring;
      }
    }
  }
  const std::vector<bool> half = can_be_half(model);
  CheckedSize offset = kStateHeaderBytes;
  for (size_t i = 0; i < model.states.size(); ++i) {
    const fb::StateT& state = *model.states[i];
    StatePlan& out = plan.states[i];
    const bool cache = state.role == fb::StateRole::KeyCache || state.role == fb::StateRole::ValueCache;
    for (const fb::Dim& dim : state.shape) out.shape.push_back(graph::dim_value(dim, bounds.symbols));
    if (cache && out.ring) out.shape[0] = out.ring->capacity;
    int64_t elements = 1;
    for (const int64_t n : out.shape) {
      if (n < 0 || (n > 0 && elements > kMostBytes / n / 8))
        return fail(ErrorCode::kOutOfMemory,
                    strf("state '{}' {} is too large: lower the context or the window", state.name,
                         graph::shape_text(out.shape)));
      elements *= n;
    }
    out.dtype = cache ? bounds.cache_dtype : half[i] ? bounds.state_dtype : static_cast<DType>(state.dtype);
    if (is_quantized(out.dtype) && (out.shape.size() != 2 || out.shape[1] % kGroupSize != 0))
      return fail(ErrorCode::kUnsupported,
                  strf("state '{}' {} cannot be kept in {}: its channels are not a multiple of {}; use f16",
                       state.name, graph::shape_text(out.shape), dtype_name(out.dtype), kGroupSize));
    out.bytes = is_quantized(out.dtype) ? cache_bytes(out.dtype, out.shape[0], out.shape[1])
                                        : static_cast<size_t>(elements) * element_bytes(out.dtype);
    const std::optional<size_t> at = offset.within(kMostPlanned);
    if (!at) break;
    out.offset = *at;
    offset += (CheckedSize(out.bytes) + kOverread).aligned(kAlignment);
  }
  const std::optional<size_t> bytes = offset.within(kMostPlanned);
  if (!bytes)
    return fail(ErrorCode::kOutOfMemory,
                strf("the {} states take more than {} bytes: lower the context or the window",
                     model.states.size(), kMostPlanned));
  plan.state_bytes = *bytes;
  return {};
}

// A value lives from its writer to its last reader (or the end, for outputs). Inputs live all the time: a run
// can be repeated to find the source of a number that is not finite, and ids must never be other bytes.
Result<void> plan_values(const fb::ModelT& model, size_t m, const Bounds& bounds, MethodPlan& plan) {
  const fb::MethodT& method = *model.methods[m];
  plan.values.resize(method.values.size());
  for (size_t i = 0; i < method.values.size(); ++i) {
    const fb::ValueT& value = *method.values[i];
    const int64_t elements = bounded_elements(value.shape, bounds.symbols);
    if (elements < 0 || elements > kMostBytes / 8)
      return fail(ErrorCode::kOutOfMemory,
                  strf("value '{}' {} of method '{}' is too large at these bounds", value.name,
                       graph::shape_text(model, value.shape), method.name));
    plan.values[i].bytes = static_cast<size_t>(elements) * element_bytes(static_cast<DType>(value.dtype));
    if (const int64_t band = plan.rows.band_rows[i]; band > 0) {
      const int64_t height = graph::dim_value(value.shape[0], bounds.symbols);
      if (band < height)
        plan.values[i].bytes = plan.values[i].bytes / static_cast<size_t>(height) * static_cast<size_t>(band);
    }
    plan.values[i].first = static_cast<int>(method.nodes.size());
    plan.values[i].last = -1;
  }
  const auto touch = [&](int value, int node) {
    if (value < 0) return;
    Buffer& buffer = plan.values[static_cast<size_t>(value)];
    buffer.first = std::min(buffer.first, node);
    buffer.last = std::max(buffer.last, node);
  };
  for (const int value : method.inputs) {
    touch(value, -1);
    touch(value, static_cast<int>(method.nodes.size()));
  }
  for (size_t n = 0; n < method.nodes.size(); ++n) {
    for (const int value : method.nodes[n]->inputs) touch(value, static_cast<int>(n));
    for (const int value : method.nodes[n]->outputs) touch(value, static_cast<int>(n));
  }
  for (const int value : method.outputs) touch(value, static_cast<int>(method.nodes.size()));
  // Nodes that run in bands run again and again: whatever one of them touches lives through all of them.
  for (const RowSegment& segment : plan.rows.segments) {
    for (int n = segment.first; n < segment.last; ++n) {
      for (const auto* operands :
           {&method.nodes[static_cast<size_t>(n)]->inputs, &method.nodes[static_cast<size_t>(n)]->outputs}) {
        for (const int value : *operands) {
          touch(value, segment.first);
          touch(value, segment.last - 1);
        }
      }
    }
  }
  return {};
}

}  // namespace

std::vector<bool> can_be_half(const fb::ModelT& model) {
  std::vector<bool> can(model.states.size(), false), cannot(model.states.size(), false);
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const uint32_t half = graph::traits_of(*node).states.half;
      for (size_t i = 0; i < node->states.size(); ++i)
        (i < 32 && (half >> i & 1) ? can : cannot)[static_cast<size_t>(node->states[i])] = true;
    }
  }
  for (size_t i = 0; i < can.size(); ++i) can[i] = can[i] && !cannot[i];
  return can;
}

std::optional<Ring> ring_of(const fb::NodeT& node, const fb::ModelT& model, const Bounds& bounds) {
  const std::optional<graph::KeyValueCache> cache = graph::cache_of(node);
  if (!cache) return std::nullopt;
  const auto bound_of = [&](std::string_view name) {
    const int symbol = graph::find_symbol(model, name);
    return symbol < 0 ? int64_t{1} : bounds.symbols[static_cast<size_t>(symbol)];
  };
  const int64_t tokens = bound_of(names::kTokens), context = std::max(tokens, bound_of(names::kContext));
  // Every token of a chunk is written before the first of them attends, so the ring holds a chunk more than
  // the window: the oldest token of the chunk still finds its whole window.
  const AttentionBounds& attention = bounds.attention;
  Ring ring;
  const bool own_window = cache->window > 0 && (attention.full || cache->window <= attention.window);
  if (own_window) {
    ring = {cache->window + tokens - 1, cache->window, 0};
    if (attention.full && ring.capacity > context) ring.capacity = context;
  } else if (attention.full) {
    ring = {context, context, 0};
  } else {
    ring = {attention.sinks + attention.window + tokens - 1, attention.window, attention.sinks};
  }
  return ring;
}

Result<Plan> make_plan(const fb::ModelT& model, const Bounds& bounds, const ScratchBytes& scratch) {
  if (bounds.symbols.size() != model.symbols.size())
    return fail(ErrorCode::kInvalidArgument, strf("{} bounds given, the model has {} symbols",
                                                  bounds.symbols.size(), model.symbols.size()));
  for (size_t i = 0; i < bounds.symbols.size(); ++i)
    if (bounds.symbols[i] < 1 || bounds.symbols[i] > (int64_t{1} << 31))
      return fail(ErrorCode::kInvalidArgument, strf("the bound of '{}' is {}, expected 1 to 2^31",
                                                    model.symbols[i]->name, bounds.symbols[i]));
  if (!can_be_used_as(bounds.cache_dtype, kCaches))
    return fail(ErrorCode::kInvalidArgument, strf("keys and values can be kept in {}, not {}",
                                                  one_of(kCacheTypes), dtype_name(bounds.cache_dtype)));
  if (!can_be_used_as(bounds.state_dtype, kStates))
    return fail(ErrorCode::kInvalidArgument, strf("recurrent states can be kept in {}, not {}",
                                                  one_of(kStateTypes), dtype_name(bounds.state_dtype)));
  const AttentionBounds& attention = bounds.attention;
  if (!attention.full && (attention.window < 1 || attention.sinks < 0 ||
                          attention.window > (int64_t{1} << 30) || attention.sinks > (int64_t{1} << 20)))
    return fail(ErrorCode::kInvalidArgument,
                strf("window {} and sinks {} must be positive and sane", attention.window, attention.sinks));
  Plan plan;
  LINNET_TRY(plan_states(model, bounds, plan));
  plan.methods.resize(model.methods.size());
  for (size_t m = 0; m < model.methods.size(); ++m) {
    MethodPlan& method = plan.methods[m];
    method.rows = plan_rows(*model.methods[m], bounds.symbols, bounds.band_bytes);
    LINNET_TRY(plan_values(model, m, bounds, method));
    const size_t nodes = model.methods[m]->nodes.size();
    method.scratch.resize(nodes);
    for (size_t n = 0; n < nodes; ++n)
      method.scratch[n] = {scratch(m, n, plan), 0, static_cast<int>(n), static_cast<int>(n)};
    std::vector<Buffer> all = method.values;
    all.insert(all.end(), method.scratch.begin(), method.scratch.end());
    CheckedSize sum;
    for (const Buffer& buffer : all) sum += CheckedSize(buffer.bytes) + kOverread + kAlignment;
    if (!sum.within(kMostPlanned))
      return fail(ErrorCode::kOutOfMemory,
                  strf("the values of method '{}' take more than {} bytes at these bounds",
                       model.methods[m]->name, kMostPlanned));
    method.work_bytes = place_buffers(all);
    if (any_overlap(all))
      return fail(ErrorCode::kInternal,
                  strf("the plan of method '{}' gives two values that live at the same time one place; "
                       "please report it with the model file",
                       model.methods[m]->name));
    std::copy_n(all.begin(), method.values.size(), method.values.begin());
    std::copy(all.begin() + static_cast<std::ptrdiff_t>(method.values.size()), all.end(),
              method.scratch.begin());
    plan.work_bytes = std::max(plan.work_bytes, method.work_bytes);
  }
  return plan;
}

}  // namespace linnet::plan
