#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/gated_delta_rule.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/mixer_inl.h"
#include "backends/host/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void run_gated_delta_rule(const KernelContext& c) {
  const auto& args = c.args<fb::GatedDeltaRuleT>();
  const int64_t heads = args.value_heads, group = heads / args.key_heads;
  const int64_t K = args.key_dim, V = args.value_dim, tokens = c.in[0].dims[0];
  const MixerRecord at = mixer_record(K, V, 1, true, false);
  const Tensor& beta_in = host::operand(c.in, 3);
  const auto &query_map = host::or_default(args.query_map), &key_map = host::or_default(args.key_map);
  const DecayInput decay{&host::or_default(args.decay),
                         host::operand(c.in, 4),
                         host::operand(c.weights, 0),
                         host::operand(c.weights, 1),
                         heads,
                         K};
  const auto prepare = [&](int64_t t, int64_t h, float* record) {
    const int64_t key_at = (t * args.key_heads + h / group) * K;
    decay.factors(t, h, record + at.factor);
    map_head(query_map, c.in[0].as() + key_at, K, record + at.query);
    map_head(key_map, c.in[1].as() + key_at, K, record + at.key);
    activate(args.value_activation, c.in[2].as() + (t * heads + h) * V, V, record + at.value);
    const float beta =
        beta_in ? host::activate(args.beta_activation, beta_in.as()[t * heads + h]) * args.beta_scale
                : args.beta_scale;
    finish_delta_record(at, K, beta, record);
  };
  run_delta_heads<false>(c, at, tokens, heads, K, V, args.scale, prepare, [](auto&&...) {});
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  const auto& args = c.args<fb::GatedDeltaRuleT>();
  return mixer_scratch_bytes(mixer_record(args.key_dim, args.value_dim, 1, true, false), c.threads);
}
Kernel kernel_gated_delta_rule(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_gated_delta_rule), scratch};
}
}  // namespace linnet::cpu
#endif
