// Rounding that mends itself: what the rounding of a column leaves is taken from the columns that are still
// to be rounded, as far as they can stand for it on the calibration text (Frantar and others, "GPTQ", arXiv
// 2210.17323, algorithm 1; here with the scales of every format of runtime/core/dtypes.def, chosen when a
// group's turn comes).
#pragma once

#include <span>
#include <vector>

#include "backends/host/thread_pool.h"
#include "format/block_group.h"
#include "linnet/result.h"

namespace linnet::convert {

class ErrorFeedback {
 public:
  // `covariance` [columns, columns] of the inputs, damped by `damping` times its mean variance.
  // Error: kNumeric where it is not finite.
  static Result<ErrorFeedback> create(std::span<const float> covariance, int64_t columns,
                                      host::ThreadPool& pool, float damping = 0.01f);

  // Rounds rows [rows, columns] to groups [rows, columns / 32]. columns % 32 == 0. Rows do not depend on each
  // other.
  void round(DType dtype, std::span<const float> values, int64_t rows, format::BlockGroup* groups,
             host::ThreadPool& pool) const;

 private:
  void round_lanes(DType dtype, const float* values, int64_t rows, format::BlockGroup* groups) const;

  int64_t columns_ = 0;
  // U, upper, with U^T U the inverse of the covariance: row i says how the error of column i, in units of
  // 1 / U[i][i], is spread over the columns after it.
  std::vector<float> factor_;
  std::vector<float>
      importance_;  // 1 / U[i][i]^2: what an error of column i costs that later ones cannot mend
};

}  // namespace linnet::convert
