#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/rotary_embedding.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/rotary_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// The table of one token serves all heads of all inputs.
void run_rotary_embedding(const KernelContext& c) {
  const auto& args = c.args<fb::RotaryEmbeddingT>();
  const auto half = static_cast<int64_t>(args.inverse_frequencies.size());
  int64_t channels = 0;
  for (size_t i = 0; i < c.in.size(); ++i) channels += c.in[i].channels();
  auto* tables = reinterpret_cast<float*>(c.scratch);
  c.pool->parallel_for_thread(
      c.in[0].rows(), 16384 / channels + 1, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
        float* cosines = tables + thread * 2 * half;
        float* sines = cosines + half;
        for (int64_t t = begin; t < end; ++t) {
          rotary_table(args.inverse_frequencies.data(), half, static_cast<double>(c.position + t),
                       args.amplitude, cosines, sines);
          for (size_t i = 0; i < c.in.size(); ++i) {
            const int64_t d = c.in[i].channels();
            for (int64_t h = t * d; h < t * d + d; h += args.head_dim)
              rotate(cosines, sines, half, args.interleaved, args.head_dim, c.in[i].as() + h,
                     c.out[i].as() + h);
          }
        }
      });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  const size_t half = c.args<fb::RotaryEmbeddingT>().inverse_frequencies.size();
  return static_cast<size_t>(c.threads) * 2 * half * sizeof(float);
}
Kernel kernel_rotary_embedding(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_rotary_embedding), scratch};
}
}  // namespace linnet::cpu
#endif
