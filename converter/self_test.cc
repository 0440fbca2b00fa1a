#include "converter/self_test.h"

#include <algorithm>
#include <cmath>

#include "converter/calibration/streamed_model.h"

namespace linnet::convert {

Result<std::vector<float>> streamed_logits(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                           const host::HostBackend& backend, std::span<const int32_t> ids,
                                           int threads) {
  LINNET_ASSIGN(const auto streamed,
                StreamedModel::create(model, weights, backend, static_cast<int64_t>(ids.size()), threads));
  StreamedSequence sequence{.ids = {ids.begin(), ids.end()}, .values = {}, .states = {}};
  LINNET_TRY(streamed->run({&sequence, 1}, {}));
  const std::span<const float> logits = streamed->logits(sequence);
  return std::vector<float>(logits.begin(), logits.end());
}

double mean_loss(std::span<const float> logits, std::span<const int32_t> ids) {
  if (ids.size() < 2) return 0;
  const size_t n = logits.size() / ids.size();
  double loss = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const std::span<const float> row = logits.subspan(i * n, n);
    const auto most = static_cast<double>(*std::max_element(row.begin(), row.end()));
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x) - most);
    loss += most + std::log(sum) - static_cast<double>(row[static_cast<size_t>(ids[i + 1])]);
  }
  return loss / static_cast<double>(ids.size() - 1);
}

Comparison compare_logits(std::span<const float> expected, std::span<const float> found, int64_t rows) {
  Comparison result;
  const auto n = static_cast<int64_t>(expected.size()) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    const float *a = expected.data() + r * n, *b = found.data() + r * n;
    const auto log_total = [n](const float* x) {
      const auto most = static_cast<double>(*std::max_element(x, x + n));
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - most);
      return most + std::log(sum);
    };
    const double total_a = log_total(a), total_b = log_total(b);
    for (int64_t i = 0; i < n; ++i) {
      const double log_a = static_cast<double>(a[i]) - total_a, log_b = static_cast<double>(b[i]) - total_b;
      result.mean_kl += std::exp(log_a) * (log_a - log_b);
      result.largest_error =
          std::max(result.largest_error, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    }
    if (std::max_element(a, a + n) - a == std::max_element(b, b + n) - b) result.agreement += 1;
  }
  result.mean_kl /= static_cast<double>(rows);
  result.agreement /= static_cast<double>(rows);
  return result;
}

}  // namespace linnet::convert
