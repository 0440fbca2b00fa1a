// How far a product with activations rounded to int8 or bf16 may be from the exact one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/dtype.h"

namespace linnet::testing {

// Allowed |y - exact y| for y = x W^T, x [rows, k], stored_w [n, k] (the values after rounding to their
// type), row-major [rows, n]. With quantised weights each x is off by at most half a step, max|x| / 254 of
// its group of 32; with bf16 weights by half a place of bf16 where the processor multiplies pairs of bf16;
// and in any case there is the rounding of the sum itself, for which 4e-7 of the sum of magnitudes is ample
// at the sizes of these tests.
inline std::vector<double> product_bound(DType dtype, std::span<const float> x,
                                         const std::vector<float>& stored_w, int64_t k) {
  const auto inputs = static_cast<size_t>(k), rows = x.size() / inputs, n = stored_w.size() / inputs;
  std::vector<double> bound(rows * n);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < n; ++j) {
      double total = 0;
      for (size_t g = 0; g < inputs; g += 32) {
        double most = 0, weights = 0, products = 0;
        for (size_t i = g; i < std::min(g + 32, inputs); ++i) {
          const auto a = std::fabs(static_cast<double>(x[r * inputs + i]));
          const auto w = std::fabs(static_cast<double>(stored_w[j * inputs + i]));
          most = std::max(most, a);
          weights += w;
          products += a * w;
        }
        total += 4e-7 * products;
        if (dtype == DType::kBF16) total += 0x1p-8 * 1.0001 * products;
        if (is_quantized(dtype)) total += most / 254 * 1.0001 * weights;
      }
      bound[r * n + j] = total + 1e-30;
    }
  }
  return bound;
}

}  // namespace linnet::testing
