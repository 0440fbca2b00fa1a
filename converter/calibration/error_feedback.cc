#include "converter/calibration/error_feedback.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "format/fit.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr size_t kLanes = 16;  // rows that are rounded side by side
constexpr auto kGroup = static_cast<size_t>(kGroupSize);
// How much of a correlation between two inputs is believed. A few thousand tokens of one kind of text show
// more than other texts keep: docs/quantization.md has what 1, 0.8, 0.7 and 0.5 leave on both.
constexpr float kBelief = 0.7f;

// Sums of every sixteenth product, so that they go side by side.
float dot(const float* a, const float* b, size_t n) {
  std::array<float, 16> sums{};
  size_t i = 0;
  for (; i + sums.size() <= n; i += sums.size())
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += a[i + j] * b[i + j];
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const float s : sums) sum += static_cast<double>(s);
  return static_cast<float>(sum);
}

// H = A A^T with A upper, in place; the lower half is not read. Returns false where H is not positive.
bool factor_upper(std::vector<float>& h, size_t n, host::ThreadPool& pool) {
  for (size_t j = n; j-- > 0;) {
    const float* row = h.data() + j * n;
    const float square = row[j] - dot(row + j + 1, row + j + 1, n - j - 1);
    if (!(square > 0)) return false;
    const float diagonal = std::sqrt(square);
    h[j * n + j] = diagonal;
    pool.parallel_for(static_cast<int64_t>(j), 128, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        float* other = h.data() + i * n;
        other[j] = (other[j] - dot(other + j + 1, row + j + 1, n - j - 1)) / diagonal;
      }
    });
  }
  return true;
}

// A becomes its inverse, in place: upper too. Columns do not depend on each other.
void invert_upper(std::vector<float>& a, size_t n, host::ThreadPool& pool) {
  std::vector<float> inverse(n * n, 0.0f);
  pool.parallel_for_pieces(static_cast<int64_t>(n), 64, [&](int, int64_t first, int64_t last) {
    const auto begin = static_cast<size_t>(first), end = static_cast<size_t>(last);
    for (size_t i = end; i-- > 0;) {
      float* row = inverse.data() + i * n;
      const size_t from = std::max(begin, i);
      for (size_t k = i + 1; k < end; ++k) {
        const float factor = a[i * n + k];
        const float* other = inverse.data() + k * n;
        for (size_t c = std::max(begin, k); c < end; ++c) row[c] -= factor * other[c];
      }
      if (i >= begin) row[i] += 1;
      const float diagonal = 1.0f / a[i * n + i];
      for (size_t c = from; c < end; ++c) row[c] *= diagonal;
    }
  });
  a = std::move(inverse);
}

}  // namespace

Result<ErrorFeedback> ErrorFeedback::create(std::span<const float> covariance, int64_t columns,
                                            host::ThreadPool& pool, float damping) {
  const auto n = static_cast<size_t>(columns);
  ErrorFeedback feedback;
  feedback.columns_ = columns;
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += static_cast<double>(covariance[i * n + i]);
  const double mean = trace / static_cast<double>(n);
  if (!std::isfinite(mean)) return fail(ErrorCode::kNumeric, "the inputs' covariance is not finite");
  // More damping where rounding leaves a variance that is none.
  for (float more = damping;; more *= 10) {
    std::vector<float>& h = feedback.factor_;
    h.assign(covariance.begin(), covariance.end());
    const float added = mean > 0 ? more * static_cast<float>(mean) : 1.0f;
    for (size_t i = 0; i < n; ++i) {
      const float own = h[i * n + i];
      for (size_t j = 0; j < n; ++j) h[i * n + j] *= kBelief;
      h[i * n + i] = own + added;
    }
    if (factor_upper(h, n, pool)) break;
    if (more > 1) return fail(ErrorCode::kNumeric, "the inputs' covariance has no root");
  }
  invert_upper(feedback.factor_, n, pool);
  for (size_t i = 0; i < n; ++i) {
    const float diagonal = feedback.factor_[i * n + i];
    feedback.importance_.push_back(1.0f / (diagonal * diagonal));
  }
  return feedback;
}

void ErrorFeedback::round(DType dtype, std::span<const float> values, int64_t rows,
                          format::BlockGroup* groups, host::ThreadPool& pool) const {
  const int64_t strips = (rows + static_cast<int64_t>(kLanes) - 1) / static_cast<int64_t>(kLanes);
  const int64_t row_groups = columns_ / kGroupSize;
  pool.parallel_for(strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t first = s * static_cast<int64_t>(kLanes);
      round_lanes(dtype, values.data() + first * columns_, std::min<int64_t>(rows - first, kLanes),
                  groups + first * row_groups);
    }
  });
}

void ErrorFeedback::round_lanes(DType dtype, const float* values, int64_t rows,
                                format::BlockGroup* groups) const {
  const auto n = static_cast<size_t>(columns_), lanes = static_cast<size_t>(rows), row_groups = n / kGroup;
  using Lanes = std::array<float, kLanes>;
  std::vector<Lanes> w(n);  // what is still to be rounded: columns of up to 16 rows
  for (size_t r = 0; r < lanes; ++r)
    for (size_t c = 0; c < n; ++c) w[c][r] = values[r * n + c];
  const format::Codes codes(dtype);
  const size_t halves = scales_of_32(dtype), half_values = kGroup / halves;
  const bool super = is_super(info_of(dtype).scale);
  const size_t super_groups = static_cast<size_t>(kSuperBlock) / kGroup;
  std::vector<float> ahead(n);
  for (size_t r = 0; r < lanes; ++r)
    if (info_of(dtype).scale == FactorKind::kE4M3)  // the scales of whole rows: of the values as they were
      format::quantize_row(dtype, {values + r * n, n}, format::ScaleSearch::kNone, groups + r * row_groups);
    else
      std::fill_n(groups + r * row_groups, row_groups, format::zero_group(dtype));
  std::array<Lanes, kGroup> errors{};
  for (size_t g = 0; g < row_groups; ++g) {
    const size_t first = g * kGroup;
    const std::span importance(importance_.data() + first, kGroup);
    for (size_t r = 0; r < lanes; ++r) {
      format::BlockGroup& group = groups[r * row_groups + g];
      if (super && g % super_groups == 0) {
        const size_t count = std::min(n - first, static_cast<size_t>(kSuperBlock));
        for (size_t c = 0; c < count; ++c) ahead[c] = w[first + c][r];
        format::quantize_row(dtype, {ahead.data(), count}, format::ScaleSearch::kFitted, &group,
                             {importance_.data() + first, count});
      } else {
        std::array<float, kGroup> now;
        for (size_t c = 0; c < kGroup; ++c) now[c] = w[first + c][r];
        format::refit_group(dtype, now, importance, group);
      }
    }
    // Column by column within the group, then all of its errors at once to the rest.
    for (size_t c = 0; c < kGroup; ++c) {
      const float* spread = factor_.data() + (first + c) * n;
      const float diagonal = spread[first + c];
      for (size_t r = 0; r < lanes; ++r) {
        format::BlockGroup& group = groups[r * row_groups + g];
        const size_t half = c / half_values;
        const float scale = format::scale_of(dtype, group, half),
                    minimum = format::minimum_of(dtype, group, half);
        const float value = w[first + c][r];
        // Damage stays: its scale is no number.
        if (std::isfinite(scale)) group.codes[c] = codes.nearest(scale == 0 ? 0 : (value - minimum) / scale);
        errors[c][r] = (value - (scale * codes.step(group.codes[c]) + minimum)) / diagonal;
      }
      for (size_t later = c + 1; later < kGroup; ++later)
        for (size_t r = 0; r < kLanes; ++r) w[first + later][r] -= errors[c][r] * spread[first + later];
    }
    for (size_t later = first + kGroup; later < n; ++later) {
      Lanes sum = w[later];
      for (size_t c = 0; c < kGroup; ++c) {
        const float share = factor_[(first + c) * n + later];
        for (size_t r = 0; r < kLanes; ++r) sum[r] -= errors[c][r] * share;
      }
      w[later] = sum;
    }
  }
}

}  // namespace linnet::convert
