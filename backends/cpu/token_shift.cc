#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/token_shift.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void run_token_shift(const KernelContext& c) {
  const int64_t tokens = c.in[0].dims[0], d = c.in[0].channels();
  constexpr int64_t kRun = 64;  // channels a thread owns for all tokens, with their history
  const int64_t cost = tokens * kRun * static_cast<int64_t>(c.out.size());
  c.pool->parallel_for((d + kRun - 1) / kRun, 32768 / cost + 1, [&](int64_t first, int64_t last) HWY_ATTR {
    const int64_t begin = first * kRun, end = last * kRun < d ? last * kRun : d;
    float* history = c.states[0].as();
    for (int64_t t = 0; t < tokens; ++t) {
      const float* x = c.in[0].as() + t * d;
      const float* previous = t > 0 ? x - d : history;
      for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
        i += begin;
        const auto now = lanes.load(x + i), change = hn::Sub(lanes.load(previous + i), now);
        for (size_t n = 0; n < c.out.size(); ++n)
          lanes.store(hn::MulAdd(change, lanes.load(c.weights[n].as() + i), now), c.out[n].as() + t * d + i);
      });
    }
    const float* x = c.in[0].as() + (tokens - 1) * d;
    for (int64_t i = begin; i < end && tokens > 0; ++i) history[i] = x[i];
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_token_shift(CpuTarget target) { return {LINNET_CHOOSE(target, run_token_shift), nullptr}; }
}  // namespace linnet::cpu
#endif
