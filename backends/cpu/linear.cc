#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/linear.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/panel_split.h"
#include "backends/cpu/vector_math_inl.h"

#ifndef LINNET_CPU_LINEAR_SCRATCH  // once for all targets
#define LINNET_CPU_LINEAR_SCRATCH
namespace linnet::cpu {
namespace {

struct LinearScratch {
  size_t quantized;       // bytes of the quantised input, 0 if no matrix needs it
  int64_t second_floats;  // of each thread: a tile of the second matrix's outputs, where gated
};
LinearScratch linear_scratch(const KernelContext& c) {
  const int64_t rows = c.in[0].rows(), k = c.in[0].channels();
  LinearScratch need{};
  if (needs_quantized(c, 2)) need.quantized = align_up(quantized_rows_bytes(rows, k));
  // The most that any number of rows up to the bound takes in tiles of tile_panels(rows).
  if (c.args<fb::LinearT>().gated)
    need.second_floats = std::max<int64_t>(16384, rows * 2 * format::kPanelRows);
  return need;
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// y = act(y + b0) [* (second + b1)] [+ residual], `columns` of each row. Null pointers: absent.
struct Epilogue {
  float* y;
  const float* second;
  const float* residual;
  const float* bias0;
  const float* bias1;
  int64_t y_stride, second_stride, columns;
};

void linear_epilogue(fb::Activation activation, const Epilogue& e, int64_t rows) {
  with_activation(activation, [&](auto act) HWY_ATTR {
    for (int64_t r = 0; r < rows; ++r) {
      float* y = e.y + r * e.y_stride;
      const float* second = e.second ? e.second + r * e.second_stride : nullptr;
      const float* residual = e.residual ? e.residual + r * e.y_stride : nullptr;
      for_lanes(e.columns, [&](auto lanes, int64_t i) HWY_ATTR {
        auto v = lanes.load(y + i);
        if (e.bias0) v = hn::Add(v, lanes.load(e.bias0 + i));
        v = act(v);
        if (second) {
          auto w = lanes.load(second + i);
          if (e.bias1) w = hn::Add(w, lanes.load(e.bias1 + i));
          v = hn::Mul(v, w);
        }
        if (residual) v = hn::Add(v, lanes.load(residual + i));
        lanes.store(v, y + i);
      });
    }
  });
}

void run_linear(const KernelContext& c) {
  const auto& args = c.args<fb::LinearT>();
  const int64_t rows = c.in[0].rows(), k = c.in[0].channels();
  const LinearScratch need = linear_scratch(c);
  const MatmulInput input = prepare_input(c, c.in[0].as(), rows, k, need.quantized > 0, c.scratch);
  float* const second_tiles = reinterpret_cast<float*>(c.scratch + need.quantized);
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const bool gated = args.gated;
  const auto panels = [&](size_t m) { return (c.weights[2 * m].dims[0] + 15) / 16; };
  const auto bytes = [&](size_t m) {
    const size_t own = format::panel_bytes(c.weights[2 * m].dtype, k);
    return gated ? own + format::panel_bytes(c.weights[2].dtype, k) : own;
  };
  const auto run_tile = [&](int thread, size_t m, int64_t panel, int64_t panel_end) HWY_ATTR {
    const Tensor& matrix = c.weights[2 * m];
    const int64_t n = matrix.dims[0], column = panel * 16;
    const int64_t columns = (panel_end * 16 < n ? panel_end * 16 : n) - column;
    const auto bias = [&](size_t index) -> const float* {
      return c.weights[index] ? c.weights[index].as() + column : nullptr;
    };
    Epilogue e{};
    e.y = c.out[m].as() + column;
    e.y_stride = n;
    e.columns = columns;
    e.bias0 = bias(2 * m + 1);
    multiply_panels(constants(c), matrix, input, panel, panel_end, e.y, n);
    if (gated) {
      float* second = second_tiles + thread * need.second_floats;
      multiply_panels(constants(c), c.weights[2], input, panel, panel_end, second, columns);
      e.second = second;
      e.second_stride = columns;
      e.bias1 = bias(3);
    }
    if (residual) e.residual = residual + column;
    const bool nothing = args.activation == fb::Activation::None && !e.bias0 && !e.second && !e.residual;
    if (!nothing) linear_epilogue(args.activation, e, rows);
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
