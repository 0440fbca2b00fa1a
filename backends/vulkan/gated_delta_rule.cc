#include "backends/vulkan/mixer.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::GatedDeltaRuleT>();
  const fb::DecayT& decay = or_default(args.decay);
  const fb::HeadMapT &query_map = or_default(args.query_map), &key_map = or_default(args.key_map);
  const StateTiles tiles(l, args.key_dim, args.value_dim);
  LINNET_TRY(check_shared(l, args.key_dim, tiles.threads, 3));
  const uint32_t of_decay = decay_flags(l, 4, 0, args.value_heads);
  Dispatch d;
  d.shader = in_chunks(l, tiles, args.key_dim, decays(of_decay, args.key_dim),
                       {.keys = 3, .columns = 1, .products = 2, .parts = 2})
                 ? "gated_delta_rule_chunk"
                 : "gated_delta_rule";
  d.constants = mixer_constants(tiles, args.key_dim, l.shapes.has_in(3) ? 1u : 0u, decay, of_decay, query_map,
                                key_map, args.value_activation);
  d.constants.push_back(code(args.beta_activation));
  d.bindings = {l.in(0), l.in(1), l.in(2), l.in(3), l.in(4), l.vector(0), l.vector(1), l.state(0), l.out(0)};
  d.push = {u32(l.shapes.in[0].dims[0]),
            u32(args.key_heads),
            u32(args.value_heads),
            u32(args.value_dim),
            tiles.tiles,
            bits(args.scale),
            bits(args.beta_scale),
            bits(query_map.epsilon),
            bits(key_map.epsilon)};
  push_decay(l, decay, 4, args.key_dim, d);
  d.groups = static_cast<uint64_t>(args.value_heads) * tiles.tiles;
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_gated_delta_rule() { return {run, nullptr}; }

}  // namespace linnet::vulkan
