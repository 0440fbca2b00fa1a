#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/short_convolution.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"
#include "backends/host/mixer.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Channels [begin, end) of all tokens of one input, which nothing else reads or writes.
struct Convolution {
  const float *x, *taps, *bias;
  float *history, *y;
  int64_t tokens, d, kernel;
};

template <typename Act>
void convolve(const Convolution& p, const Act& act, int64_t begin, int64_t end) {
  const int64_t kept = p.kernel - 1;
  for (int64_t t = 0; t < p.tokens; ++t) {
    for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
      i += begin;
      auto y = p.bias ? lanes.load(p.bias + i) : hn::Zero(FloatTag());
      for (int64_t j = 0; j < p.kernel; ++j) {
        const int64_t from = t - kept + j;
        const float* x = from < 0 ? p.history + (kept + from) * p.d : p.x + from * p.d;
        y = hn::MulAdd(lanes.load(p.taps + j * p.d + i), lanes.load(x + i), y);
      }
      lanes.store(act(y), p.y + t * p.d + i);
    });
  }
  for (int64_t j = 0; j < kept; ++j) {  // forward: a short run shifts the history in place
    const int64_t from = p.tokens - kept + j;
    const float* x = from < 0 ? p.history + (kept + from) * p.d : p.x + from * p.d;
    for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(lanes.load(x + begin + i), p.history + j * p.d + begin + i);
    });
  }
}

void run_short_convolution(const KernelContext& c) {
  const auto& args = c.args<fb::ShortConvolutionT>();
  // All inputs' channels end to end, in runs of 64 that a thread owns with their histories.
  constexpr int64_t kRun = 64;
  int64_t runs = 0;
  for (const Tensor& x : c.in) runs += (x.channels() + kRun - 1) / kRun;
  const int64_t cost = c.in[0].dims[0] * kRun * args.kernel;
  with_activation(args.activation, [&](auto act) HWY_ATTR {
    c.pool->parallel_for(runs, 65536 / cost + 1, [&](int64_t first, int64_t last) HWY_ATTR {
      int64_t before = 0;
      for (size_t n = 0; n < c.in.size(); ++n) {
        const int64_t d = c.in[n].channels(), own = (d + kRun - 1) / kRun;
        const int64_t begin = first > before ? (first - before) * kRun : 0;
        int64_t end = (last - before) * kRun;
        if (end > d) end = d;
        const Convolution p{c.in[n].as(),
                            c.weights[2 * n].as(),
                            host::operand(c.weights, 2 * n + 1).as(),
                            c.states[n].as(),
                            c.out[n].as(),
                            c.in[n].dims[0],
                            d,
                            args.kernel};
        if (begin < end) convolve(p, act, begin, end);
        before += own;
      }
    });
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_short_convolution(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_short_convolution), nullptr};
}
}  // namespace linnet::cpu
#endif
