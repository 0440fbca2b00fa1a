// How linear and logits share the panels of one or several matrices between threads: each thread takes one
// contiguous run of the panels of all matrices laid end to end, weighed by the time they take, in one launch
// of the pool; within its run it goes in tiles whose outputs are still in the first caches when the epilogue
// (bias, activation, gate, residual) reads them again. Any split gives the same bits, because a panel's
// outputs depend on nothing else.
#pragma once

#include <algorithm>

#include "backends/cpu/kernels.h"
#include "format/panel.h"

namespace linnet::cpu {

// The activations as f32 rows and, where a block format needs them, quantised.
struct MatmulInput {
  const float* x;
  int64_t rows, k;
  const std::byte* quantized;     // null: no block format
  Refine refine = Refine::kNone;  // of the quantised rows
};

inline bool needs_quantized(const KernelContext& c, size_t step) {
  for (size_t i = 0; i < c.weights.size(); i += step)
    if (is_quantized(c.weights[i].dtype)) return true;
  return false;
}

// Fills `scratch` (quantized_rows_bytes(rows, k, refine)).
inline MatmulInput prepare_input(const KernelContext& c, const float* x, int64_t rows, int64_t k,
                                 bool quantize, std::byte* scratch, Refine refine = Refine::kNone) {
  if (!quantize) return {x, rows, k, nullptr, refine};
  const QuantizeFunction quantize_rows = constants(c).matmul->quantize_rows;
  c.pool->parallel_for_pieces(rows, 32768 / k + 1, [&](int, int64_t begin, int64_t end) {
    quantize_rows(x + begin * k, end - begin, k, k, refine, scratch + quantized_rows_bytes(begin, k, refine));
  });
  return {x, rows, k, scratch, refine};
}

// Columns [16 * panel, 16 * panel_end) of x W^T to y, whose first column is column 16 * panel.
inline void multiply_panels(const CpuConstants& constants, const Tensor& matrix, const MatmulInput& input,
                            int64_t panel, int64_t panel_end, float* y, int64_t y_stride) {
  MatmulArgs args;
  args.weights = matrix.data + format::panel_bytes(matrix.dtype, input.k) * static_cast<size_t>(panel);
  args.n = std::min(matrix.dims[0], panel_end * format::kPanelRows) - panel * format::kPanelRows;
  args.k = input.k;
  args.rows = input.rows;
  args.y = y;
  args.y_stride = y_stride;
  if (is_quantized(matrix.dtype)) {
    args.x = input.quantized;
    args.x_stride = quantized_row_bytes(input.k, input.refine);
    args.refine = input.refine;
  } else {
    args.x = input.x;
    args.x_stride = static_cast<size_t>(input.k) * sizeof(float);
  }
  constants.matmul->matmul[static_cast<size_t>(matrix.dtype)](args, 0, panel_end - panel);
}

// Panels of one tile: outputs of 64 KiB, at most 1024 columns.
constexpr int64_t tile_panels(int64_t rows) {
  const int64_t panels = 1024 / std::max<int64_t>(rows, 1) / 2 * 2;
  return panels < 2 ? 2 : panels > 64 ? 64 : panels;
}

// Rows of a block of the input that stays in the second-level cache while a thread's panels pass by: blocks
// of one size, of which every kernel's tiles make up a whole number.
inline int64_t block_rows(const MatmulInput& input) {
  constexpr int64_t kTiles = 24;
  const size_t row = input.quantized ? quantized_row_bytes(input.k, input.refine)
                                     : static_cast<size_t>(input.k) * sizeof(float);
  const int64_t most =
      std::max<int64_t>(static_cast<int64_t>(size_t{384} * 1024 / row) / kTiles * kTiles, 96);
  if (input.rows <= most) return std::max<int64_t>(input.rows, 1);
  const int64_t blocks = (input.rows + most - 1) / most, rows = (input.rows + blocks - 1) / blocks;
  return (rows + kTiles - 1) / kTiles * kTiles;
}
inline MatmulInput rows_of(const MatmulInput& input, int64_t first, int64_t count) {
  return {input.x + first * input.k, count, input.k,
          input.quantized ? input.quantized + quantized_rows_bytes(first, input.k, input.refine) : nullptr,
          input.refine};
}

// The panels of several matrices laid end to end, `step` panels at a time, which take cost(m) places.
// f(matrix, panel, panel_end) covers those whose first place is in [begin, end), in runs of at most tile(m)
// panels.
template <typename Panels, typename Cost, typename Tile, typename F>
void panels_between(size_t count, int64_t begin, int64_t end, int64_t step, const Panels& panels,
                    const Cost& cost, const Tile& tile, const F& f) {
  int64_t before = 0;
  for (size_t m = 0; m < count; ++m) {
    const int64_t most = panels(m), own = cost(m), steps = (most + step - 1) / step;
    const auto first_from = [&](int64_t at) {
      return at <= before ? 0 : std::min(most, (at - before + own - 1) / own * step);
    };
    const int64_t last = first_from(end), run = tile(m);
    for (int64_t p = first_from(begin); p < last; p += run) f(m, p, std::min(last, p + run));
    before += own * steps;
  }
}

// f(thread, matrix, panel, panel_end, row, row_end) covers all panels of matrices 0 .. count - 1 for all
// rows; bytes(m) and panels(m) are the bytes of a panel of matrix m and how many it has.
template <typename Panels, typename Bytes, typename F>
void for_panels(const KernelContext& c, size_t count, const MatmulInput& input, const Panels& panels,
                const Bytes& bytes, const F& f) {
  if (input.rows == 1) {  // streams weights: time goes by bytes
    int64_t total = 0;
    for (size_t m = 0; m < count; ++m) total += static_cast<int64_t>(bytes(m)) * panels(m);
    // 32 KiB stream about as long as waking a thread takes.
    c.pool->parallel_for_pieces(total, 32768, [&](int thread, int64_t begin, int64_t end) {
      panels_between(
          count, begin, end, 1, panels, [&](size_t m) { return static_cast<int64_t>(bytes(m)); },
          [](size_t) { return tile_panels(1); },
          [&](size_t m, int64_t p, int64_t last) { f(thread, m, p, last, 0, 1); });
    });
    return;
  }
  // Several rows compute: every two panels (which go faster than single ones) take the same time for a block
  // of rows. All panels of the first block, then those of the next.
  int64_t steps = 0;
  for (size_t m = 0; m < count; ++m) steps += (panels(m) + 1) / 2;
  const int64_t block = block_rows(input), tile = tile_panels(block);
  const int64_t blocks = (input.rows + block - 1) / block, all = steps * blocks;
  // 2^17 multiplications take about as long as waking a thread.
  const int64_t grain = (1 << 17) / (2 * format::kPanelRows * block * input.k) + 1;
  c.pool->parallel_for_pieces(all, grain, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t b = begin / steps; b * steps < end; ++b)
      panels_between(
          count, begin - b * steps, end - b * steps, 2, panels, [](size_t) { return int64_t{1}; },
          [&](size_t) { return tile; },
          [&](size_t m, int64_t p, int64_t last) {
            f(thread, m, p, last, b * block, std::min(input.rows, (b + 1) * block));
          });
  });
}

}  // namespace linnet::cpu
