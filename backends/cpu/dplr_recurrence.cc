#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/dplr_recurrence.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/mixer_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void run_dplr_recurrence(const KernelContext& c) {
  const auto& args = c.args<fb::DplrRecurrenceT>();
  const int64_t heads = args.heads, K = args.key_dim, V = args.value_dim, tokens = c.in[0].dims[0];
  const MixerRecord at = mixer_record(K, V, 1, true, true);
  const Tensor &removal_in = host::operand(c.in, 5), &first = host::operand(c.in, 6),
               &mix = host::operand(c.in, 7);
  const Tensor &removal_scale = host::operand(c.weights, 2), &rate_mix = host::operand(c.weights, 3),
               &bonus = host::operand(c.weights, 4);
  const DecayInput decay{&host::or_default(args.decay), c.in[1], host::operand(c.weights, 0),
                         host::operand(c.weights, 1),   heads,   K};
  // read_key: c, the direction removed; second_key: c a; query: r f, since the state is read before it
  // decays.
  const auto prepare = [&](int64_t t, int64_t h, float* record) {
    const int64_t key_at = (t * heads + h) * K, value_at = (t * heads + h) * V;
    const float *r = c.in[0].as() + key_at, *raw = c.in[2].as() + key_at;
    float *removal = record + at.read_key, *rate = record + at.second_key, *k = record + at.key;
    for (const int i : {0, 1, 2, 4}) prefetch_row(c.in[static_cast<size_t>(i)], (t + 2) * heads + h, K);
    for (const Tensor* x : {&c.in[3], &first, &mix}) prefetch_row(*x, (t + 2) * heads + h, V);
    decay.factors(t, h, record + at.factor);
    activate(args.rate_activation, c.in[4].as() + key_at, K, rate);
    const auto one = set(1.0f);
    for_lanes(K, [&](auto lanes, int64_t i) HWY_ATTR {
      auto key = lanes.load(raw + i), direction = key;
      if (removal_in)
        direction = lanes.load(removal_in.as() + key_at + i);
      else if (removal_scale)
        direction = hn::Mul(direction, lanes.load(removal_scale.as() + h * K + i));
      if (rate_mix) {
        const auto change =
            hn::Mul(hn::Sub(lanes.load(rate + i), one), lanes.load(rate_mix.as() + h * K + i));
        key = hn::MulAdd(key, change, key);
      }
      lanes.store(direction, removal + i);
      lanes.store(key, k + i);
    });
    if (!removal_in) {
      const float squares = dot(removal, removal, K) + args.removal_epsilon;
      if (squares != 0) divide(removal, K, __builtin_sqrtf(squares));
    }
    for_lanes(K, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(hn::Mul(lanes.load(rate + i), lanes.load(removal + i)), rate + i);
      lanes.store(hn::Mul(lanes.load(r + i), lanes.load(record + at.factor + i)), record + at.query + i);
    });
    for_lanes(V, [&](auto lanes, int64_t j) HWY_ATTR {
      auto v = lanes.load(c.in[3].as() + value_at + j);
      if (first)
        v = hn::MulAdd(hn::Sub(lanes.load(first.as() + value_at + j), v),
                       sigmoid(lanes.load(mix.as() + value_at + j)), v);
      lanes.store(v, record + at.value + j);
    });
    float* scalars = record + at.scalars;
    scalars[1] = dot(r, k, K);
    scalars[2] = dot(r, rate, K);
    if (!bonus) return;
    auto total = hn::Zero(FloatTag());
    for_lanes(K, [&](auto lanes, int64_t i) HWY_ATTR {
      const auto weighted = hn::Mul(lanes.load(r + i), lanes.load(bonus.as() + h * K + i));
      total = hn::MulAdd(weighted, lanes.load(k + i), total);
    });
    scalars[3] = sum_of_lanes(total);
  };
  const auto add_bonus = [&](const float* records, int64_t t, int64_t count, int64_t h, int64_t first_column,
                             int64_t last_column) HWY_ATTR {
    for (int64_t i = 0; bonus && i < count; ++i) {
      const float* record = records + i * at.floats;
      float* y = c.out[1].as() + ((t + i) * heads + h) * V;
      const auto weight = set(record[at.scalars + 3]);
      for_lanes(last_column - first_column, [&](auto lanes, int64_t j) HWY_ATTR {
        j += first_column;
        lanes.store(hn::Mul(weight, lanes.load(record + at.value + j)), y + j);
      });
    }
  };
  run_delta_heads<true>(c, at, tokens, heads, K, V, args.scale, prepare, add_bonus);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  const auto& args = c.args<fb::DplrRecurrenceT>();
  return mixer_scratch_bytes(mixer_record(args.key_dim, args.value_dim, 1, true, true), c.threads);
}
Kernel kernel_dplr_recurrence(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_dplr_recurrence), scratch};
}
}  // namespace linnet::cpu
#endif
