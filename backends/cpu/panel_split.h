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
  c.pool->parallel_for(rows, 32768 / k + 1, [&](int64_t begin, int64_t end) {
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

// Rows of the input that stay in the second-level cache while a thread's panels pass by.
inline int64_t block_rows(const MatmulInput& input) {
  const size_t row = input.quantized ? quantized_row_bytes(input.k, input.refine)
                                     : static_cast<size_t>(input.k) * sizeof(float);
  const int64_t rows = static_cast<int64_t>(size_t{384} * 1024 / row) / 24 * 24;
  return std::min(std::max<int64_t>(rows, 96), std::max<int64_t>(input.rows, 1));
}
inline MatmulInput rows_of(const MatmulInput& input, int64_t first, int64_t count) {
  return {input.x + first * input.k, count, input.k,
          input.quantized ? input.quantized + quantized_rows_bytes(first, input.k, input.refine) : nullptr,
          input.refine};
}

// f(thread, matrix, panel, panel_end, row, row_end) covers all panels of matrices 0 .. count - 1 for all
// rows; bytes(m) and panels(m) are the bytes of a panel of matrix m and how many it has.
template <typename Panels, typename Bytes, typename F>
void for_panels(const KernelContext& c, size_t count, const MatmulInput& input, const Panels& panels,
                const Bytes& bytes, const F& f) {
  // One row streams weights: time goes by bytes. Several rows compute: by multiplications, and pairs of
  // panels go faster than single ones.
  const bool one_row = input.rows == 1;
  const auto cost = [&](size_t m) { return one_row ? static_cast<int64_t>(bytes(m)) : input.rows * input.k; };
  const int64_t step = one_row ? 1 : 2;
  int64_t total = 0;
  for (size_t m = 0; m < count; ++m) total += cost(m) * panels(m);
  const int64_t block = block_rows(input), tile = tile_panels(block);
  // 32 KiB stream, and 2^17 multiplications take, about as long as waking a thread.
  c.pool->parallel_for_thread(total, one_row ? 32768 : 8192, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t row = 0; row < input.rows; row += block) {
      const int64_t row_end = std::min(input.rows, row + block);
      int64_t before = 0;
      for (size_t m = 0; m < count; ++m) {
        const int64_t own = cost(m), most = panels(m);
        const auto first_from = [&](int64_t at) {
          if (at <= before) return int64_t{0};
          return std::min(most, (at - before + own * step - 1) / (own * step) * step);
        };
        const int64_t last = first_from(end);
        for (int64_t p = first_from(begin); p < last; p += tile)
          f(thread, m, p, std::min(last, p + tile), row, row_end);
        before += own * most;
      }
    }
  });
}

}  // namespace linnet::cpu
