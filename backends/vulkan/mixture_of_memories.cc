#include "backends/vulkan/mixer.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

// Where the parts of the scratch lie, for the tokens of the bounds.
struct Layout {
  size_t shares, q, k, v, outputs, end = 0;

  explicit Layout(const NodeShapes& shapes) {
    const auto& args = shapes.args<fb::MixtureOfMemoriesT>();
    const int64_t tokens = shapes.in[0].dims[0], all = args.memories + (args.shared ? 1 : 0);
    const int64_t keys = args.kernel > 0 ? all * tokens * args.heads * args.key_dim : 0,
                  values = all * tokens * args.heads * args.value_dim;
    const auto place = [&](int64_t floats) {
      const size_t at = end;
      end += (static_cast<size_t>(floats) * sizeof(float) + 255) / 256 * 256;  // any device's alignment
      return at;
    };
    shares = place(tokens * all);
    q = place(keys);
    k = place(keys);
    v = place(args.kernel > 0 ? values : 0);
    outputs = place(values);
  }
};

size_t scratch(const NodeShapes& shapes) { return Layout(shapes).end; }

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::MixtureOfMemoriesT>();
  const Layout at(l.bounds());
  const fb::DecayT& decay = or_default(args.decay);
  const fb::HeadMapT &query_map = or_default(args.query_map), &key_map = or_default(args.key_map);
  const int64_t tokens = l.shapes.in[0].dims[0], all = args.memories + (args.shared ? 1 : 0);
  const int64_t keys = int64_t{args.heads} * args.key_dim, values = int64_t{args.heads} * args.value_dim;
  const auto part = [&](size_t from, size_t to, bool writes) { return l.scratch(from, to - from, writes); };
  const StateTiles tiles(l, args.key_dim, args.value_dim);
  LINNET_TRY(check_shared(l, args.key_dim, tiles.threads, 2));

  Dispatch route;
  route.shader = "mixture_of_memories_route";
  route.constants = {kThreads};
  route.bindings = {l.in(5), part(at.shares, at.q, true)};
  route.push = {u32(tokens), u32(args.memories), u32(all), u32(args.top_k)};
  route.groups = ceil_div(tokens, kThreads);
  l.add(std::move(route));
  const Binding shares = part(at.shares, at.q, false);

  const bool convolves = args.kernel > 0;
  const size_t ends[] = {at.k, at.v, at.outputs}, begins[] = {at.q, at.k, at.v};
  Binding operands[3];
  uint32_t stride[3], row[3], first[3];
  for (size_t i = 0; i < 3; ++i) {
    const int64_t own = i < 2 ? keys : values, width = l.shapes.in[i].channels();
    operands[i] = l.in(i);
    stride[i] = 0;
    row[i] = u32(width);
    first[i] = width == own ? 0 : u32(own);
    if (!convolves) continue;
    Dispatch d;
    d.shader = "mixture_of_memories_convolve";
    d.constants = {kThreads, u32(args.kernel), code(args.kernel_activation)};
    d.bindings = {l.in(i), l.vector(2 + i), shares, l.state(1 + i), part(begins[i], ends[i], true)};
    d.push = {u32(tokens), u32(own), u32(width), u32(all)};
    d.groups = tokens > 0 ? ceil_div(all * own, kThreads) : 0;
    l.add(std::move(d));
    operands[i] = part(begins[i], ends[i], false);
    stride[i] = u32(tokens * own);
    row[i] = u32(own);
    first[i] = 0;
  }
  const auto per_memory = [&](size_t i) {
    return l.shapes.in[i].channels() == args.heads ? 0u : u32(args.heads);
  };
  Dispatch d;
  d.shader = "mixture_of_memories";
  const uint32_t flags = (l.shapes.has_weight(0) ? 2u : 0u) | (l.shapes.has_weight(1) ? 4u : 0u);
  d.constants =
      mixer_constants(tiles, args.key_dim, 0, decay, flags, query_map, key_map, args.value_activation);
  d.constants.push_back(code(args.beta_activation));
  d.bindings = {operands[0], operands[1], operands[2], l.in(3),    l.in(4),
                l.vector(0), l.vector(1), shares,      l.state(0), part(at.outputs, at.end, true)};
  d.push = {u32(tokens),
            u32(args.heads),
            u32(args.value_dim),
            tiles.tiles,
            u32(all),
            stride[0],
            stride[1],
            stride[2],
            row[0],
            row[1],
            row[2],
            first[1],
            first[2],
            u32(l.shapes.in[3].channels()),
            per_memory(3),
            per_memory(4),
            bits(args.scale),
            bits(args.beta_scale),
            bits(query_map.epsilon),
            bits(key_map.epsilon)};
  push_decay(l, decay, 4, 1, d);
  d.groups = static_cast<uint64_t>(all * args.heads) * tiles.tiles;
  l.add(std::move(d));

  Dispatch add;
  add.shader = "mixture_of_memories_add";
  add.constants = {kThreads};
  add.bindings = {part(at.outputs, at.end, false), l.out(0)};
  add.push = {u32(tokens * values), u32(all)};
  add.groups = ceil_div(tokens * values, kThreads);
  l.add(std::move(add));
  return {};
}

}  // namespace

Lower lower_mixture_of_memories() { return {run, scratch}; }

}  // namespace linnet::vulkan
