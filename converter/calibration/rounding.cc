#include "converter/calibration/rounding.h"

#include <algorithm>
#include <array>

#include "format/panel.h"

namespace linnet::convert {
namespace {

constexpr int64_t kValuesTogether = int64_t{1} << 21;
constexpr float kLeastImportance = 1e-3f;  // of the mean

}  // namespace

std::vector<float> floored_importance(std::vector<float> energy) {
  float sum = 0;
  for (const float e : energy) sum += e;
  const float least = kLeastImportance * sum / static_cast<float>(energy.size());
  for (float& e : energy) e = std::max(e, least > 0 ? least : 1.0f);
  return energy;
}

Result<MatrixRounder> MatrixRounder::create(const Rounding& rounding, const std::string& weight, DType dtype,
                                            Rows rows) {
  MatrixRounder r;
  r.pool_ = rounding.pool;
  r.dtype_ = dtype;
  r.search_ = rows->lossless() ? format::ScaleSearch::kFitted : format::ScaleSearch::kNone;
  const InputStatistics* inputs = rounding.calibration ? rounding.calibration->find(weight) : nullptr;
  if (inputs) {
    r.search_ = format::ScaleSearch::kFitted;
    r.importance_ = floored_importance(inputs->energy);
    if (!inputs->covariance.empty()) {
      LINNET_ASSIGN(ErrorFeedback feedback,
                    ErrorFeedback::create(inputs->covariance, rows->columns, *rounding.pool));
      r.feedback_.emplace(std::move(feedback));
    }
  }
  r.rows_ = std::move(rows);
  return r;
}

Result<void> MatrixRounder::fill(int64_t first) {
  const int64_t columns = rows_->columns, row_groups = columns / kGroupSize;
  const int64_t most =
      std::max<int64_t>(kValuesTogether / columns / format::kPanelRows, 1) * format::kPanelRows;
  const int64_t count = std::min(most, rows_->rows - first);
  values_.resize(static_cast<size_t>(count * columns));
  groups_.resize(static_cast<size_t>(count * row_groups));
  LINNET_TRY(rows_->read(first, count, values_.data()));
  if (feedback_) {
    feedback_->round(dtype_, values_, count, groups_.data(), *pool_);
  } else {
    pool_->parallel_for_pieces(count, 1, [&](int, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        format::quantize_row(dtype_, {values_.data() + r * columns, static_cast<size_t>(columns)}, search_,
                             groups_.data() + r * row_groups, importance_);
    });
  }
  add_errors(count);
  begin_ = first;
  end_ = first + count;
  return {};
}

void MatrixRounder::add_errors(int64_t count) {
  const auto columns = static_cast<size_t>(rows_->columns), group = static_cast<size_t>(kGroupSize);
  std::vector<std::array<double, 2>> sums(
      static_cast<size_t>(count));  // by row: the same on any number of threads
  pool_->parallel_for(count, 64, [&](int64_t begin, int64_t end) {
    std::array<float, static_cast<size_t>(kGroupSize)> back;
    for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r)
      for (size_t c = 0; c < columns; ++c) {
        if (c % group == 0) format::values_of(dtype_, groups_[(r * columns + c) / group], back.data());
        const auto x = static_cast<double>(values_[r * columns + c]),
                   e = x - static_cast<double>(back[c % group]);
        const double counts = importance_.empty() ? 1.0 : static_cast<double>(importance_[c]);
        sums[r][0] += counts * e * e;
        sums[r][1] += counts * x * x;
      }
  });
  for (const auto& [error, square] : sums) error_ += error, square_ += square;
}

Result<void> MatrixRounder::groups(int64_t first, int64_t count, format::BlockGroup* out) {
  const int64_t row_groups = rows_->columns / kGroupSize;
  for (int64_t r = first; r < first + count; ++r) {
    if (r < begin_ || r >= end_) LINNET_TRY(fill(r));
    std::copy_n(groups_.begin() + (r - begin_) * row_groups, row_groups, out + (r - first) * row_groups);
  }
  return {};
}

}  // namespace linnet::convert
