#include "format/fit.h"

#include <algorithm>
#include <cmath>

namespace linnet::format {
namespace {

// Most values that are fitted together here: a group.
constexpr auto kMostFitted = static_cast<size_t>(kGroupSize);

// `weight(i)`: how much value i counts.
template <typename Weight>
float round_and_weigh(Codes codes, std::span<const float> x, float scale, float minimum, uint8_t* out,
                      Weight weight) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  // Sums of every fourth value, so that four go at once.
  constexpr size_t kSums = 4;
  float sums[kSums] = {};
  if (codes.in_table()) {
    for (size_t i = 0; i < x.size(); ++i) {
      out[i] = codes.nearest((x[i] - minimum) * inverse);
      const float e = x[i] - (scale * codes.step(out[i]) + minimum);
      sums[i % kSums] += weight(i) * (e * e);
    }
  } else {
    const int32_t zero = codes.zero();
    for (size_t i = 0; i + kSums <= x.size(); i += kSums)
      for (size_t j = 0; j < kSums; ++j) {
        const int32_t code = codes.nearest_uniform((x[i + j] - minimum) * inverse);
        out[i + j] = static_cast<uint8_t>(code);
        const float e = x[i + j] - (scale * static_cast<float>(code - zero) + minimum);
        sums[j] += weight(i + j) * (e * e);
      }
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

int32_t largest_code(DType dtype) {
  const size_t signs = info_of(dtype).codes == CodeKind::kSigned ? 1 : 0;
  return (int32_t{1} << (code_bits(dtype) - signs)) - 1;
}

Codes::Codes(DType dtype) : kind_(info_of(dtype).codes) {
  high_ = largest_code(dtype);
  low_ = kind_ == CodeKind::kSigned ? -high_ : 0;
  zero_ = info_of(dtype).zero;
  if (!is_table(kind_)) return;
  for (uint8_t code = 0; code < 16; ++code) order_[code] = code;
  std::stable_sort(order_.begin(), order_.end(), [&](uint8_t a, uint8_t b) { return step(a) < step(b); });
}

float round_codes(Codes codes, std::span<const float> x, float scale, float minimum, uint8_t* out,
                  Importance importance) {
  if (importance.empty()) return round_and_weigh(codes, x, scale, minimum, out, [](size_t) { return 1.0f; });
  return round_and_weigh(codes, x, scale, minimum, out, [importance](size_t i) { return importance[i]; });
}

float fitted_scale(Codes codes, std::span<const float> x, const uint8_t* q, Importance importance) {
  float xq = 0, qq = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float step = codes.step(q[i]), weighted = importance.empty() ? step : importance[i] * step;
    xq += x[i] * weighted;
    qq += step * weighted;
  }
  return qq > 0 ? xq / qq : 0;
}

// Without a minimum: the extreme value at the end of the codes on its side or on the other (with a negative
// scale), or up to a fifth before and beyond it, each fitted.
Fit fit_scale(const Codes& codes, std::span<const float> x, Importance importance) {
  float low = 0, high = 0;
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  const float extreme = -low > high ? low : high;
  Fit best;
  if (extreme == 0) return {0, 0, 0};
  std::array<uint8_t, kMostFitted> q;
  for (const float end : {codes.lowest(), codes.highest()})
    for (int i = -6; i <= 6; ++i) {
      const float scale = extreme / (end * (1 + 0.03f * static_cast<float>(i)));
      round_codes(codes, x, scale, 0, q.data());
      const float fitted = fitted_scale(codes, x, q.data(), importance);
      const float error = round_codes(codes, x, fitted, 0, q.data(), importance);
      if (error < best.error) best = {fitted, 0, error};
    }
  // Squares beyond the floats: a scale that its f16 will refuse.
  if (!std::isfinite(best.error)) best.scale = extreme / codes.lowest();
  return best;
}

// With a minimum, which is not above 0 unless it may have any sign: the range of the values, or somewhat
// less, each fitted by least squares.
Fit fit_range(const Codes& codes, std::span<const float> x, bool any_sign, Importance importance) {
  float low = any_sign ? x[0] : std::min(0.0f, x[0]), high = x[0];
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  if (high <= low)
    return {0, low, round_codes(codes, x, 0, low, std::array<uint8_t, kMostFitted>{}.data(), importance)};
  const float most = codes.highest();
  Fit best;
  std::array<uint8_t, kMostFitted> q;
  for (int i = -8; i <= 8; ++i) {
    const float first = (high - low) / (most * (1 + 0.04f * static_cast<float>(i)));
    round_codes(codes, x, first, low, q.data());
    float n = 0, s = 0, ss = 0, sx = 0, sum = 0;
    for (size_t j = 0; j < x.size(); ++j) {
      const float step = codes.step(q[j]), w = importance.empty() ? 1.0f : importance[j];
      n += w, s += w * step, ss += w * step * step, sx += w * step * x[j], sum += w * x[j];
    }
    const float determinant = n * ss - s * s;
    if (determinant <= 0) continue;
    float scale = (n * sx - s * sum) / determinant, minimum = (ss * sum - s * sx) / determinant;
    if (minimum > 0 && !any_sign) minimum = 0, scale = sx / ss;
    if (scale <= 0) continue;
    const float error = round_codes(codes, x, scale, minimum, q.data(), importance);
    if (error < best.error) best = {scale, minimum, error};
  }
  if (!std::isfinite(best.error)) best = {(high - low) / most, low, 0};
  return best;
}

}  // namespace linnet::format
