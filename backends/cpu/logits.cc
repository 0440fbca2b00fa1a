#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/logits.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/panel_split.h"
#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void run_logits(const KernelContext& c) {
  const auto& args = c.args<fb::LogitsT>();
  const Tensor& matrix = c.weights[0];
  const int64_t k = c.in[0].channels(), rows = c.out[0].dims[0], n = matrix.dims[0];
  if (rows == 0) return;
  const float* x = c.in[0].as() + (c.in[0].dims[0] - rows) * k;
  const MatmulInput input = prepare_input(c, x, rows, k, needs_quantized(c, 1), c.scratch, Refine::kLargest);
  const auto scale = set(args.scale), cap = set(args.softcap);
  const auto panels = [&](size_t) { return format::panel_count(n); };
  const auto bytes = [&](size_t) { return format::panel_bytes(matrix.dtype, k); };
  for_panels(c, 1, input, panels, bytes,
             [&](int, size_t, int64_t panel, int64_t panel_end, int64_t row, int64_t row_end) HWY_ATTR {
               const int64_t column = panel * 16;
               const int64_t columns = (panel_end * 16 < n ? panel_end * 16 : n) - column;
               float* y = c.out[0].as() + row * n + column;
               multiply_panels(constants(c), matrix, rows_of(input, row, row_end - row), panel, panel_end, y,
                               n);
               if (args.scale == 1.0f && args.softcap <= 0.0f) return;
               for (int64_t r = 0; r < row_end - row; ++r) {
                 for_lanes(columns, [&](auto lanes, int64_t i) HWY_ATTR {
                   auto v = hn::Mul(lanes.load(y + r * n + i), scale);
                   if (args.softcap > 0.0f) v = hn::Mul(cap, tanh(hn::Div(v, cap)));
                   lanes.store(v, y + r * n + i);
                 });
               }
             });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  if (!needs_quantized(c, 1)) return 0;
  return quantized_rows_bytes(c.out[0].dims[0], c.in[0].channels(), Refine::kLargest);
}
Kernel kernel_logits(CpuTarget target) { return {LINNET_CHOOSE(target, run_logits), scratch}; }
}  // namespace linnet::cpu
#endif
