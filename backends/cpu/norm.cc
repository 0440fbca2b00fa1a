#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/norm.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"
#include "backends/host/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

inline constexpr int64_t kNormGrain = 16384;  // elements worth a thread of their own

// One group of n channels.
struct NormGroup {
  const float* x;
  const float* gate;    // null: none
  const float* weight;  // null: none
  const float* bias;    // null: none
  float* y;
  int64_t n;
};

// Sums whose squares leave the range of f32 are taken again in double, so that a large finite input does not
// come out as zeros.
void norm_group_wide(const fb::NormT& args, const NormGroup& g) {
  double sum = 0, squares = 0;
  const auto at = [&](int64_t i) {
    const float gated = g.gate && args.gate_first ? host::activate(args.gate_activation, g.gate[i]) : 1.0f;
    return static_cast<double>(g.x[i] * gated);
  };
  for (int64_t i = 0; i < g.n; ++i) sum += at(i);
  const auto n = static_cast<double>(g.n);
  const double mean = args.kind == fb::NormKind::Layer ? sum / n : 0.0;
  for (int64_t i = 0; i < g.n; ++i) squares += (at(i) - mean) * (at(i) - mean);
  const double spread = args.kind == fb::NormKind::L2 ? squares : squares / n;
  const double inverse = 1.0 / __builtin_sqrt(spread + static_cast<double>(args.epsilon));
  for (int64_t i = 0; i < g.n; ++i) {
    auto y = static_cast<float>((at(i) - mean) * inverse);
    if (g.weight) y *= g.weight[i] + args.weight_offset;
    if (g.bias) y += g.bias[i];
    if (g.gate && !args.gate_first) y *= host::activate(args.gate_activation, g.gate[i]);
    g.y[i] = y;
  }
}

void norm_group(const fb::NormT& args, const NormGroup& g) {
  const float* x = g.x;
  if (g.gate && args.gate_first) {
    with_activation(args.gate_activation, [&](auto act) HWY_ATTR {
      for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
        lanes.store(hn::Mul(lanes.load(g.x + i), act(lanes.load(g.gate + i))), g.y + i);
      });
    });
    x = g.y;
  }
  auto mean = hn::Zero(FloatTag());
  if (args.kind == fb::NormKind::Layer) {
    auto sum = hn::Zero(FloatTag());
    for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR { sum = hn::Add(sum, lanes.load(x + i)); });
    mean = set(sum_of_lanes(sum) / static_cast<float>(g.n));
  }
  auto sum = hn::Zero(FloatTag());
  for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto v = lanes.keep(hn::Sub(lanes.load(x + i), mean));
    sum = hn::MulAdd(v, v, sum);
  });
  const auto squares = static_cast<double>(sum_of_lanes(sum));
  const double spread = args.kind == fb::NormKind::L2 ? squares : squares / static_cast<double>(g.n);
  const auto epsilon = static_cast<double>(args.epsilon);
  if (!(squares < 1e38) || (squares < 1e-28 && epsilon < 1e-28)) return norm_group_wide(args, g);
  const auto inverse = set(static_cast<float>(1.0 / __builtin_sqrt(spread + epsilon)));
  const auto offset = set(args.weight_offset);
  for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
    auto y = hn::Mul(hn::Sub(lanes.load(x + i), mean), inverse);
    if (g.weight) y = hn::Mul(y, hn::Add(lanes.load(g.weight + i), offset));
    if (g.bias) y = hn::Add(y, lanes.load(g.bias + i));
    lanes.store(y, g.y + i);
  });
  if (g.gate && !args.gate_first) {
    with_activation(args.gate_activation, [&](auto act) HWY_ATTR {
      for_lanes(g.n, [&](auto lanes, int64_t i) HWY_ATTR {
        lanes.store(hn::Mul(lanes.load(g.y + i), act(lanes.load(g.gate + i))), g.y + i);
      });
    });
  }
}

void run_norm(const KernelContext& c) {
  const auto& args = c.args<fb::NormT>();
  const int64_t d = c.in[0].channels();
  const int64_t group = args.group > 0 ? args.group : d;
  const int64_t per_row = d / group;
  // The parameters of group `index` of a row: one set for the row, or one for every group alike.
  const auto parameters = [&](size_t i, int64_t index) -> const float* {
    if (i >= c.weights.size() || !c.weights[i]) return nullptr;
    return c.weights[i].as() + (c.weights[i].dims[0] == d ? index * group : 0);
  };
  const float* gate = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const int64_t grain = kNormGrain / group + 1;
  c.pool->parallel_for(c.in[0].rows() * per_row, grain, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * group, index = i % per_row;
      norm_group(args, {c.in[0].as() + at, gate ? gate + at : nullptr, parameters(0, index),
                        parameters(1, index), c.out[0].as() + at, group});
    }
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_norm(CpuTarget target) { return {LINNET_CHOOSE(target, run_norm), nullptr}; }
}  // namespace linnet::cpu
#endif
