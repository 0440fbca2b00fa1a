#include "backends/vulkan/product.h"

namespace linnet::vulkan {
namespace {

// Where the parts of the scratch lie, for the tokens of the bounds.
struct Layout {
  size_t logits, chosen, weights, hidden, shared_hidden, end;

  explicit Layout(const NodeShapes& shapes) {
    const auto& args = shapes.args<fb::MixtureOfExpertsT>();
    const int64_t tokens = shapes.in[0].dims[0];
    end = 0;
    const auto place = [&](int64_t floats) {
      const size_t at = end;
      end += (static_cast<size_t>(floats) * sizeof(float) + 255) / 256 * 256;  // any device's alignment
      return at;
    };
    logits = place(tokens * args.experts);
    chosen = place(tokens * args.top_k);
    weights = place(tokens * (args.top_k + 1));
    hidden = place(tokens * args.top_k * shapes.weights[2].dims[1]);
    shared_hidden = place(shapes.has_weight(5) ? tokens * shapes.weights[5].dims[0] : 0);
  }
};

size_t scratch(const NodeShapes& shapes) { return Layout(shapes).end; }

// One expert's products: its hidden values, or (down) what they give.
struct Experts {
  size_t gate, up, down;  // weights of the node
  int64_t inner, slots;
  bool shared;
  Binding hidden;
};

void hidden(Lowering& l, const Experts& e, const Binding& chosen) {
  const auto& args = l.args<fb::MixtureOfExpertsT>();
  const Shape& x = l.shapes.in[0];
  const auto panels = u32(format::panel_count(e.inner));
  for (const PanelRange& range : panel_ranges(l, e.gate, static_cast<int>(e.up))) {
    Dispatch d;
    d.shader = "mixture_of_experts_hidden";
    d.constants = {product_threads(l, x.channels()), code(l.shapes.weights[e.gate].dtype),
                   code(l.shapes.weights[e.up].dtype), code(args.activation), whole_groups(x.channels())};
    d.bindings = {l.in(0), {range.first, false}, {range.second, false}, chosen, e.hidden};
    d.push = {u32(e.slots),      u32(x.channels()), u32(e.inner),      panels, range.first_panel,
              range.panels,      range.first_skip,  range.second_skip, 0,      0,
              e.shared ? 1u : 0u};
    d.groups = static_cast<uint64_t>(x.dims[0] * e.slots) * panels;
    d.weight_bytes = range.bytes / static_cast<uint64_t>(e.shared ? 1 : args.experts) *
                     static_cast<uint64_t>(e.slots * x.dims[0]);
    l.add(std::move(d));
  }
}

void down(Lowering& l, const Experts& e, const Binding& chosen, const Binding& weights, bool first) {
  const auto& args = l.args<fb::MixtureOfExpertsT>();
  const Shape& x = l.shapes.in[0];
  const auto panels = u32(format::panel_count(x.channels()));
  Binding read_hidden = e.hidden;
  read_hidden.writes = false;
  for (const PanelRange& range : panel_ranges(l, e.down, -1)) {
    Dispatch d;
    d.shader = "mixture_of_experts";
    d.constants = {product_threads(l, e.inner), code(l.shapes.weights[e.down].dtype), 0, 0,
                   whole_groups(e.inner)};
    d.bindings = {read_hidden, {range.first, false}, chosen, weights, l.in(1), l.out(0)};
    const uint32_t flags = (e.shared ? 1u : 0u) | (first ? 0u : 2u) | (first && l.shapes.has_in(1) ? 4u : 0u);
    d.push = {u32(e.slots),
              u32(e.inner),
              u32(x.channels()),
              panels,
              range.first_panel,
              range.panels,
              range.first_skip,
              0,
              u32(args.top_k + 1),
              e.shared ? u32(args.top_k) : 0u,
              flags};
    d.groups = static_cast<uint64_t>(x.dims[0]) * panels;
    d.weight_bytes = range.bytes / static_cast<uint64_t>(e.shared ? 1 : args.experts) *
                     static_cast<uint64_t>(e.slots * x.dims[0]);
    l.add(std::move(d));
    first = false;
  }
}

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::MixtureOfExpertsT>();
  const Layout at(l.bounds());
  const Shape& x = l.shapes.in[0];
  const auto part = [&](size_t from, size_t to, bool writes) { return l.scratch(from, to - from, writes); };
  if ((static_cast<size_t>(args.experts) * 2 + 128) * sizeof(float) > l.device().shared_bytes())
    return fail(ErrorCode::kUnsupported,
                "more experts than the device's shared memory holds: use --backend cpu");
  const uint32_t tile = product_tile(x.dims[0]);
  for (const PanelRange& range : panel_ranges(l, 0, -1)) {
    Dispatch d;  // the router is a product like any other
    d.shader = "logits";
    d.constants = {product_threads(l, x.channels()),
                   code(l.shapes.weights[0].dtype),
                   0,
                   0,
                   whole_groups(x.channels()),
                   tile};
    d.bindings = {l.in(0), {range.first, false}, part(at.logits, at.chosen, true)};
    d.push = {u32(x.dims[0]),   0, u32(x.channels()), u32(args.experts), range.first_panel, range.panels,
              range.first_skip, 0, bits(1.0f),        bits(0.0f)};
    d.groups = range.panels * ceil_div(x.dims[0], tile);
    d.weight_bytes = range.bytes;
    l.add(std::move(d));
  }
  const uint32_t flags =
      (l.shapes.has_weight(1) ? 1u : 0u) | (args.renormalize ? 2u : 0u) | (l.shapes.has_weight(8) ? 4u : 0u);
  Dispatch choose;
  choose.shader = "mixture_of_experts_choose";
  choose.constants = {64, u32(args.experts), code(args.scores), flags};
  choose.bindings = {l.in(0),     part(at.logits, at.chosen, false), l.vector(1),
                     l.vector(8), part(at.chosen, at.weights, true), part(at.weights, at.hidden, true)};
  choose.push = {u32(args.top_k), u32(x.channels()), bits(args.scale), bits(args.renormalize_epsilon)};
  choose.groups = static_cast<uint64_t>(x.dims[0]);
  l.add(std::move(choose));

  const Binding chosen = part(at.chosen, at.weights, false), weights = part(at.weights, at.hidden, false);
  const Experts routed{
      2, 3, 4, l.shapes.weights[2].dims[1], args.top_k, false, part(at.hidden, at.shared_hidden, true)};
  hidden(l, routed, chosen);
  if (!l.shapes.has_weight(5)) {
    down(l, routed, chosen, weights, true);
    return {};
  }
  const Experts common{5, 6, 7, l.shapes.weights[5].dims[0], 1, true, part(at.shared_hidden, at.end, true)};
  hidden(l, common, chosen);
  down(l, routed, chosen, weights, true);
  down(l, common, chosen, weights, false);
  return {};
}

}  // namespace

Lower lower_mixture_of_experts() { return {run, scratch}; }

}  // namespace linnet::vulkan
