#pragma once

#include <vector>

#include "backends/host/kernel.h"
#include "backends/host/scalar.h"
#include "format/panel.h"

namespace linnet::reference {

using host::Kernel;
using host::KernelContext;
using host::Tensor;

// Each op's file defines kernel_<op>().
#define LINNET_OP(pascal, snake, equation) Kernel kernel_##snake();
#include "runtime/graph/ops.def"
#undef LINNET_OP

// Row `row` of a matrix in panels, as f32.
inline void weight_row(const Tensor& matrix, int64_t row, float* values) {
  const int64_t k = matrix.dims[matrix.rank - 1];
  const size_t panel = format::panel_bytes(matrix.dtype, k) * static_cast<size_t>(row / format::kPanelRows);
  format::unpack_panel_row(matrix.dtype, matrix.data + panel, row % format::kPanelRows, k, values);
}

// y[r] = x[r] . w in double: the reference must not be the noisy side of a comparison.
inline double dot(const float* a, const float* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace linnet::reference
