#include "backends/vulkan/mixer.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::DplrRecurrenceT>();
  const fb::DecayT& decay = or_default(args.decay);
  const StateTiles tiles(l, args.key_dim, args.value_dim);
  LINNET_TRY(check_shared(l, args.key_dim, tiles.threads, 5));
  const uint32_t flags = (l.shapes.has_in(5) ? 1u : 0u) | (l.shapes.has_in(6) ? 2u : 0u) |
                         (l.shapes.has_weight(2) ? 4u : 0u) | (l.shapes.has_weight(3) ? 8u : 0u) |
                         (l.shapes.has_weight(4) ? 16u : 0u);
  const uint32_t of_decay = decay_flags(l, 1, 0, args.heads);
  Dispatch d;
  d.shader = in_chunks(l, tiles, args.key_dim, decays(of_decay, args.key_dim),
                       {.keys = 4, .columns = 2, .products = 4, .parts = 2})
                 ? "dplr_recurrence_chunk"
                 : "dplr_recurrence";
  d.constants = tiles.constants(args.key_dim);
  d.constants.insert(d.constants.end(), {flags, code(decay.kind), of_decay, code(args.rate_activation)});
  for (size_t i = 0; i < 8; ++i) d.bindings.push_back(l.in(i));
  for (size_t i = 0; i < 5; ++i) d.bindings.push_back(l.vector(i));
  d.bindings.insert(d.bindings.end(), {l.state(0), l.out(0), l.has_out(1) ? l.out(1) : l.nowhere()});
  d.push = {u32(l.shapes.in[0].dims[0]), u32(args.heads), u32(args.value_dim), tiles.tiles, bits(args.scale),
            bits(args.removal_epsilon)};
  push_decay(l, decay, 1, args.key_dim, d);
  d.groups = static_cast<uint64_t>(args.heads) * tiles.tiles;
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_dplr_recurrence() { return {run, nullptr}; }

}  // namespace linnet::vulkan
