#include "backends/vulkan/mixer.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

// z on its way back to the state.
size_t scratch(const NodeShapes& shapes) {
  const auto& args = shapes.args<fb::GatedLinearAttentionT>();
  return args.normalized ? static_cast<size_t>(shapes.states[1].elements()) * sizeof(float) : 0;
}

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::GatedLinearAttentionT>();
  const fb::DecayT& decay = or_default(args.decay);
  const fb::HeadMapT &query_map = or_default(args.query_map), &key_map = or_default(args.key_map);
  const int32_t heads = std::max(args.key_heads, args.value_heads),
                outputs = std::max(args.query_heads, heads);
  const StateTiles tiles(l, args.key_dim, args.value_dim);
  LINNET_TRY(check_shared(l, args.key_dim, tiles.threads, 4));
  const uint32_t of_decay = decay_flags(l, 3, 0, heads);
  // A head's one decay is that of its values as much as of its keys.
  const bool decay_values = args.decay_values && (of_decay & 1u) != 0;
  const uint32_t flags = (l.shapes.has_in(1) ? 1u : 0u) | (l.shapes.has_in(2) ? 2u : 0u) |
                         (decay_values ? 4u : 0u) | (args.step_scales_write ? 8u : 0u) |
                         (args.normalized ? 16u : 0u) | (l.shapes.has_weight(2) ? 32u : 0u);
  const bool detour = args.normalized && tiles.tiles > 1;
  const size_t sum_bytes = scratch(l.shapes);
  Dispatch d;
  d.shader =
      in_chunks(
          l, tiles, args.key_dim, decays(of_decay, decay_values ? int64_t{tiles.columns} : args.key_dim),
          {.keys = 2, .columns = 1, .products = 1, .parts = 1, .once = args.normalized ? args.key_dim : 0})
          ? "gated_linear_attention_chunk"
          : "gated_linear_attention";
  d.constants =
      mixer_constants(tiles, args.key_dim, flags, decay, of_decay, query_map, key_map, args.value_activation);
  d.bindings = {l.in(0),
                l.in(1),
                l.in(2),
                l.in(3),
                l.vector(0),
                l.vector(1),
                l.vector(2),
                l.state(0),
                args.normalized ? l.state(1, !detour) : l.params(),
                l.out(0),
                detour ? l.scratch(0, sum_bytes, true) : l.params()};
  d.push = {u32(l.shapes.in[0].dims[0]),
            u32(args.query_heads),
            u32(args.key_heads),
            u32(args.value_heads),
            u32(heads),
            u32(outputs),
            u32(args.value_dim),
            tiles.tiles,
            bits(args.scale),
            bits(args.normalizer_epsilon),
            bits(query_map.epsilon),
            bits(key_map.epsilon)};
  push_decay(l, decay, 3, decay_values ? args.value_dim : args.key_dim, d);
  d.groups = static_cast<uint64_t>(heads) * tiles.tiles;
  l.add(std::move(d));
  if (!detour) return {};
  Dispatch sum;
  sum.shader = "gated_linear_attention_sum";
  sum.constants = {kThreads};
  sum.bindings = {l.scratch(0, sum_bytes, false), l.state(1)};
  sum.push = {u32(l.shapes.states[1].elements())};
  sum.groups = ceil_div(l.shapes.states[1].elements(), kThreads);
  l.add(std::move(sum));
  return {};
}

}  // namespace

Lower lower_gated_linear_attention() { return {run, scratch}; }

}  // namespace linnet::vulkan
