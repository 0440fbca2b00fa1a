#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/pointwise.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Fewest elements worth a thread of their own: about two microseconds of work.
inline constexpr int64_t kGrain = 16384;

// y = f(a, b); b may be null where f does not read it.
template <typename F>
void map_table(const KernelContext& c, const F& f);
template <typename F>
void map(const KernelContext& c, const F& f) {
  if (!c.weights.empty()) return map_table(c, f);
  const float* a = c.in[0].as();
  const float* b = c.in.size() > 1 ? c.in[1].as() : a;
  float* y = c.out[0].as();
  c.pool->parallel_for_pieces(c.out[0].elements(), kGrain, [&](int, int64_t begin, int64_t end) HWY_ATTR {
    for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
      i += begin;
      lanes.store(f(lanes.load(a + i), lanes.load(b + i)), y + i);
    });
  });
}

// b is a table of the output's channels, the same for every row; a's channels may be fewer and are repeated.
template <typename F>
void map_table(const KernelContext& c, const F& f) {
  const int64_t channels = c.out[0].channels(), own = c.in[0].channels();
  c.pool->parallel_for_pieces(
      c.out[0].rows(), kGrain / channels + 1, [&](int, int64_t begin, int64_t end) HWY_ATTR {
        for (int64_t r = begin; r < end; ++r) {
          const float* a = c.in[0].as() + r * own;
          for (int64_t first = 0; first < channels; first += own) {
            const float* b = c.weights[0].as() + first;
            float* y = c.out[0].as() + r * channels + first;
            for_lanes(own, [&](auto lanes, int64_t i)
                               HWY_ATTR { lanes.store(f(lanes.load(a + i), lanes.load(b + i)), y + i); });
          }
        }
      });
}

void run_pointwise(const KernelContext& c) {
  const auto& args = c.args<fb::PointwiseT>();
  const auto alpha = set(args.alpha), beta = set(args.beta);
  using V = FloatVec;
  switch (args.kind) {
    case fb::PointwiseKind::Add:
      return map(c, [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    case fb::PointwiseKind::Multiply:
      return map(c, [](V a, V b) HWY_ATTR { return hn::Mul(a, b); });
    case fb::PointwiseKind::Activate:
      return with_activation(args.activation,
                             [&](auto act) HWY_ATTR { map(c, [act](V a, V) HWY_ATTR { return act(a); }); });
    case fb::PointwiseKind::ActivateMultiply:
      return with_activation(args.activation, [&](auto act) HWY_ATTR {
        map(c, [act](V a, V b) HWY_ATTR { return hn::Mul(act(a), b); });
      });
    case fb::PointwiseKind::Scale:
      return map(c, [=](V a, V) HWY_ATTR { return hn::MulAdd(alpha, a, beta); });
    case fb::PointwiseKind::Softcap:
      return map(c, [=](V a, V) HWY_ATTR { return hn::Mul(alpha, tanh(hn::Div(a, alpha))); });
    case fb::PointwiseKind::ScaledAdd:
      return map(c, [=](V a, V b) HWY_ATTR { return hn::MulAdd(alpha, a, hn::Mul(beta, b)); });
  }
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_pointwise(CpuTarget target) { return {LINNET_CHOOSE(target, run_pointwise), nullptr}; }
}  // namespace linnet::cpu
#endif
