#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/linear.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/epilogue_inl.h"
#include "backends/cpu/panel_split.h"

#ifndef LINNET_CPU_LINEAR_SCRATCH  // once for all targets
#define LINNET_CPU_LINEAR_SCRATCH
namespace linnet::cpu {
namespace {

// Second terms for a gate and its partner would cost a prefill as much again as all others do, or twice that,
// and gain the least (docs/performance.md, "Perplexity").
Refine refine_of(const fb::LinearT& args) { return args.gated ? Refine::kNone : Refine::kLargest; }

struct LinearScratch {
  size_t quantized;       // bytes of the quantised input, 0 if no matrix needs it
  int64_t second_floats;  // of each thread: a tile of the second matrix's outputs, where gated
};
LinearScratch linear_scratch(const KernelContext& c) {
  const int64_t rows = c.in[0].rows(), k = c.in[0].channels();
  LinearScratch need{};
  if (needs_quantized(c, 2))
    need.quantized = align_up(quantized_rows_bytes(rows, k, refine_of(c.args<fb::LinearT>())));
  // The most that any number of rows up to the bound takes in tiles of tile_panels(block_rows).
  if (c.args<fb::LinearT>().gated)
    need.second_floats = std::max<int64_t>(16384, rows * 2 * format::kPanelRows);
  return need;
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void run_linear(const KernelContext& c) {
  const auto& args = c.args<fb::LinearT>();
  const int64_t rows = c.in[0].rows(), k = c.in[0].channels();
  const LinearScratch need = linear_scratch(c);
  const MatmulInput input =
      prepare_input(c, c.in[0].as(), rows, k, need.quantized > 0, c.scratch, refine_of(args));
  float* const second_tiles = reinterpret_cast<float*>(c.scratch + need.quantized);
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const bool gated = args.gated;
  const float* gate =
      c.in.size() > 2 && c.in[2] ? c.in[2].as() + args.gate_part * c.weights[0].dims[0] : nullptr;
  const auto panels = [&](size_t m) { return format::panel_count(c.weights[2 * m].dims[0]); };
  const auto bytes = [&](size_t m) {
    const size_t own = format::panel_bytes(c.weights[2 * m].dtype, k);
    return gated ? own + format::panel_bytes(c.weights[2].dtype, k) : own;
  };
  const auto run_tile = [&](int thread, size_t m, int64_t panel, int64_t panel_end, int64_t row,
                            int64_t row_end) HWY_ATTR {
    const MatmulInput block = rows_of(input, row, row_end - row);
    const Tensor& matrix = c.weights[2 * m];
    const int64_t n = matrix.dims[0], column = panel * 16;
    const int64_t columns = (panel_end * 16 < n ? panel_end * 16 : n) - column;
    const auto bias = [&](size_t index) -> const float* {
      return c.weights[index] ? c.weights[index].as() + column : nullptr;
    };
    Epilogue e{};
    e.y = c.out[m].as() + row * n + column;
    e.y_stride = n;
    e.columns = columns;
    e.bias0 = bias(2 * m + 1);
    multiply_panels(constants(c), matrix, block, panel, panel_end, e.y, n);
    if (gated) {
      float* second = second_tiles + thread * need.second_floats;
      multiply_panels(constants(c), c.weights[2], block, panel, panel_end, second, columns);
      e.second = second;
      e.second_stride = columns;
      e.bias1 = bias(3);
    }
    if (gate) e.gate = gate + column;
    if (residual) e.residual = residual + row * n + column;
    apply_epilogue(args.activation, e, row_end - row);
  };
  for_panels(c, gated ? 1 : c.weights.size() / 2, input, panels, bytes, run_tile);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  const LinearScratch need = linear_scratch(c);
  return need.quantized + static_cast<size_t>(c.threads * need.second_floats) * sizeof(float);
}
Kernel kernel_linear(CpuTarget target) { return {LINNET_CHOOSE(target, run_linear), scratch}; }
}  // namespace linnet::cpu
#endif
