// Rounding by what a text asks of the weights: each step leaves less than the one before it.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "converter/calibration/error_feedback.h"
#include "format/block_group.h"
#include "runtime/core/dtype_names.h"

using namespace linnet;
using namespace linnet::convert;

namespace {

constexpr size_t kRows = 20, kColumns = 288;  // one super-block and a group, one panel and some rows

struct Sample {
  std::vector<float> weights;  // [kRows, kColumns]
  std::vector<float>
      covariance;  // [kColumns, kColumns] of inputs that go together, some far larger than others
};

Sample sample() {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Sample s;
  for (size_t i = 0; i < kRows * kColumns; ++i) s.weights.push_back(0.05f * normal(random));
  constexpr size_t kInputs = 600, kCauses = 40;
  std::vector<float> mix(kCauses * kColumns);
  for (float& m : mix) m = normal(random);
  std::vector<double> sums(kColumns * kColumns);
  for (size_t n = 0; n < kInputs; ++n) {
    std::vector<float> causes(kCauses), x(kColumns);
    for (float& c : causes) c = normal(random);
    for (size_t c = 0; c < kColumns; ++c) {
      for (size_t k = 0; k < kCauses; ++k) x[c] += causes[k] * mix[k * kColumns + c];
      x[c] = (x[c] + normal(random)) * (c % 37 == 0 ? 6.0f : 1.0f);
    }
    for (size_t a = 0; a < kColumns; ++a)
      for (size_t b = 0; b < kColumns; ++b) sums[a * kColumns + b] += static_cast<double>(x[a] * x[b]);
  }
  for (const double sum : sums) s.covariance.push_back(static_cast<float>(sum / kInputs));
  return s;
}

std::vector<float> importance_of(const Sample& s) {
  std::vector<float> importance;
  for (size_t c = 0; c < kColumns; ++c) importance.push_back(s.covariance[c * kColumns + c]);
  return importance;
}

std::vector<format::BlockGroup> rounded(DType dtype, const Sample& s, std::span<const float> importance) {
  std::vector<format::BlockGroup> groups(kRows * kColumns / kGroupSize);
  for (size_t r = 0; r < kRows; ++r)
    format::quantize_row(dtype, std::span(s.weights).subspan(r * kColumns, kColumns),
                         format::ScaleSearch::kFitted, groups.data() + r * kColumns / kGroupSize, importance);
  return groups;
}

std::vector<double> errors_of(DType dtype, const Sample& s, std::span<const format::BlockGroup> groups) {
  std::vector<double> errors;
  std::vector<float> values(static_cast<size_t>(kGroupSize));
  for (size_t g = 0; g < groups.size(); ++g) {
    format::values_of(dtype, groups[g], values.data());
    for (size_t i = 0; i < values.size(); ++i)
      errors.push_back(static_cast<double>(s.weights[g * values.size() + i] - values[i]));
  }
  return errors;
}

// What each column costs alone.
double weighted(const std::vector<double>& errors, std::span<const float> importance) {
  double sum = 0;
  for (size_t i = 0; i < errors.size(); ++i)
    sum += static_cast<double>(importance[i % kColumns]) * errors[i] * errors[i];
  return sum;
}

// What the outputs differ by, squared, on the inputs.
double at_outputs(const std::vector<double>& errors, const Sample& s) {
  double sum = 0;
  for (size_t r = 0; r < kRows; ++r)
    for (size_t a = 0; a < kColumns; ++a)
      for (size_t b = 0; b < kColumns; ++b)
        sum += errors[r * kColumns + a] * errors[r * kColumns + b] *
               static_cast<double>(s.covariance[a * kColumns + b]);
  return sum;
}

}  // namespace

TEST_CASE("scales that are fitted to what columns count leave less of what counts, in every block format") {
  const Sample s = sample();
  const std::vector<float> importance = importance_of(s);
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    const double plain = weighted(errors_of(dtype, s, rounded(dtype, s, {})), importance);
    const double fitted = weighted(errors_of(dtype, s, rounded(dtype, s, importance)), importance);
    // One scale for 256 values, or scales that are few, have little to choose from.
    CHECK(fitted <= plain * 1.001);
    if (info_of(dtype).scale != FactorKind::kE8M0 && dtype != DType::kTQ2) CHECK(fitted < plain * 0.99);
  }
}

TEST_CASE("equal importance is none") {
  const Sample s = sample();
  const std::vector<float> ones(kColumns, 1.0f);
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    CHECK(errors_of(dtype, s, rounded(dtype, s, ones)) == errors_of(dtype, s, rounded(dtype, s, {})));
  }
}

TEST_CASE("errors that later columns take up leave less at the outputs, on any number of threads") {
  const Sample s = sample();
  host::ThreadPool one(1), three(3);
  const auto feedback = ErrorFeedback::create(s.covariance, kColumns, one);
  const auto same = ErrorFeedback::create(s.covariance, kColumns, three);
  REQUIRE(feedback);
  REQUIRE(same);
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    std::vector<format::BlockGroup> groups(kRows * kColumns / kGroupSize), again(groups.size());
    feedback->round(dtype, s.weights, kRows, groups.data(), one);
    same->round(dtype, s.weights, kRows, again.data(), three);
    const double before = at_outputs(errors_of(dtype, s, rounded(dtype, s, importance_of(s))), s);
    const std::vector<double> errors = errors_of(dtype, s, groups);
    CHECK(at_outputs(errors, s) < 0.8 * before);
    CHECK(errors == errors_of(dtype, s, again));
  }
}

TEST_CASE("a value that is no number stays one, and a covariance without a root is refused or damped") {
  Sample s = sample();
  host::ThreadPool pool(1);
  s.weights[40] = std::nanf("");
  const auto feedback = ErrorFeedback::create(s.covariance, kColumns, pool);
  REQUIRE(feedback);
  for (const DType dtype : {DType::kQ4, DType::kQ4K, DType::kMXFP4, DType::kNVFP4}) {
    CAPTURE(dtype_name(dtype));
    std::vector<format::BlockGroup> groups(kRows * kColumns / kGroupSize);
    feedback->round(dtype, s.weights, kRows, groups.data(), pool);
    CHECK_FALSE(format::is_finite(dtype, groups[1]));
    CHECK(format::is_finite(dtype, groups[kColumns / kGroupSize]));  // the next row
  }
  CHECK(ErrorFeedback::create(std::vector<float>(kColumns * kColumns, 1.0f), kColumns, pool));  // of rank 1
  CHECK(ErrorFeedback::create(std::vector<float>(kColumns * kColumns, 0.0f), kColumns, pool));  // never used
  s.covariance[3] = s.covariance[0] = INFINITY;
  CHECK_FALSE(ErrorFeedback::create(s.covariance, kColumns, pool));
}
