#include "backends/vulkan/mixer.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::GatedLinearAttentionT>();
  const fb::DecayT& decay = or_default(args.decay);
  const fb::HeadMapT &query_map = or_default(args.query_map), &key_map = or_default(args.key_map);
  const int32_t heads = std::max(args.key_heads, args.value_heads),
                outputs = std::max(args.query_heads, heads);
  const StateTiles tiles(l, args.key_dim, args.value_dim);
  LINNET_TRY(check_shared(l, args.key_dim, tiles.threads, 4));
  const uint32_t flags = (l.shapes.has_in(1) ? 1u : 0u) | (l.shapes.has_in(2) ? 2u : 0u) |
                         (args.decay_values ? 4u : 0u) | (args.step_scales_write ? 8u : 0u) |
                         (args.normalized ? 16u : 0u) | (l.shapes.has_weight(2) ? 32u : 0u);
  const uint32_t of_decay = decay_flags(l, 3, 0, heads);
  Dispatch d;
  d.shader = !args.decay_values && !args.normalized &&
                     in_chunks(l, tiles, args.key_dim, of_decay,
                               {.keys = 2, .columns = 1, .products = 1, .parts = 1})
                 ? "gated_linear_attention_chunk"
                 : "gated_linear_attention";
  d.constants =
      mixer_constants(tiles, args.key_dim, flags, decay, of_decay, query_map, key_map, args.value_activation);
  d.bindings = {l.in(0),     l.in(1),     l.in(2),
                l.in(3),     l.vector(0), l.vector(1),
                l.vector(2), l.state(0),  args.normalized ? l.state(1, false) : l.params(),
                l.out(0)};
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
  push_decay(l, decay, 3, args.decay_values ? args.value_dim : args.key_dim, d);
  d.groups = static_cast<uint64_t>(heads) * tiles.tiles;
  Dispatch sum = d;
  l.add(std::move(d));
  if (!args.normalized) return {};
  sum.shader = "gated_linear_attention_sum";
  sum.bindings = {l.in(1), l.in(3), l.vector(0), l.vector(1), l.state(1)};
  sum.groups = static_cast<uint64_t>(heads);
  l.add(std::move(sum));
  return {};
}

}  // namespace

Lower lower_gated_linear_attention() { return {run, nullptr}; }

}  // namespace linnet::vulkan
