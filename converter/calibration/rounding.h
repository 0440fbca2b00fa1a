// How the rows of a matrix become the groups of a block format: on all threads, and by what a calibration
// knows.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "converter/calibration/calibration.h"
#include "converter/calibration/error_feedback.h"

namespace linnet::convert {

struct Rounding {
  host::ThreadPool* pool = nullptr;
  const Calibration* calibration = nullptr;  // null: every column counts alike
};

// Energies as importance: a column that a text never used may be used yet, so that none counts nothing.
std::vector<float> floored_importance(std::vector<float> energy);

// One matrix (or stack of matrices) on its way. Columns are a multiple of 32.
class MatrixRounder {
 public:
  static Result<MatrixRounder> create(const Rounding& rounding, const std::string& weight, DType dtype,
                                      Rows rows);

  // Rows [first, first + count) as groups; asked for in order, with `count` at most a panel's.
  Result<void> groups(int64_t first, int64_t count, format::BlockGroup* out);
  // Whether a calibration decides.
  bool calibrated() const { return !importance_.empty(); }
  // Of the rows so far: the squared error as a share of their square, each column counted by its importance.
  double error() const { return square_ > 0 ? error_ / square_ : 0; }

 private:
  Result<void> fill(int64_t first);
  void add_errors(int64_t count);

  host::ThreadPool* pool_ = nullptr;
  DType dtype_ = DType::kF32;
  Rows rows_;
  format::ScaleSearch search_ = format::ScaleSearch::kNone;
  std::vector<float> importance_;
  std::optional<ErrorFeedback> feedback_;
  // Rows that were rounded together.
  int64_t begin_ = 0, end_ = 0;
  std::vector<float> values_;
  std::vector<format::BlockGroup> groups_;
  double error_ = 0, square_ = 0;
};

}  // namespace linnet::convert
