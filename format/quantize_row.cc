// Rounding to block formats. q8, q4, q4a, q5 and q5a round as ggml's formats of these shapes, with a search
// over scales; formats with super-blocks find the scale (and the minimum) of every group first, then the
// super-block's f16, then round each group's own factor to the one that leaves the least error.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "format/block_group.h"

namespace linnet::format {
namespace {

constexpr auto kGroupValues = static_cast<size_t>(kGroupSize);
constexpr auto kSuperGroups = static_cast<size_t>(kSuperBlock / kGroupSize);
constexpr uint16_t kHalfNan = 0x7E00;

// Round to nearest even for |x| < 2^22 with one addition, which vectorises on the SSE2 baseline where
// nearbyint() is a call. Larger or NaN values give a meaningless integer; callers clamp it.
int32_t round_to_int(float x) { return std::bit_cast<int32_t>(x + 12582912.0f) - 0x4B400000; }

// Damage stays visible: a scale that is no number makes every weight of the group NaN.
BlockGroup not_representable(DType dtype) {
  BlockGroup group = zero_group(dtype);
  group.scale = group.minimum = kHalfNan;
  if (info_of(dtype).scale == FactorKind::kE8M0) group.factor = {255, 255};
  if (info_of(dtype).scale == FactorKind::kE4M3) group.factor = {0x7F, 0x7F};
  return group;
}

bool has_bad_value(std::span<const float> x) {
  // min/max skip NaN, so it is looked for apart: 0 * x is 0 for every finite x and NaN otherwise.
  float probe = 0;
  for (const float v : x) probe += v * 0.0f;
  return probe != 0.0f;
}

int32_t largest_code(DType dtype) {
  const size_t signs = info_of(dtype).codes == CodeKind::kSigned ? 1 : 0;
  return (int32_t{1} << (code_bits(dtype) - signs)) - 1;
}

// The codes of a format: which is nearest to a number of steps.
class Codes {
 public:
  explicit Codes(DType dtype) : dtype_(dtype), kind_(info_of(dtype).codes) {
    high_ = largest_code(dtype);
    low_ = kind_ == CodeKind::kSigned ? -high_ : 0;
    zero_ = info_of(dtype).zero;
    if (!is_table(kind_)) return;
    for (uint8_t code = 0; code < 16; ++code) order_[code] = code;
    std::stable_sort(order_.begin(), order_.end(), [&](uint8_t a, uint8_t b) { return step(a) < step(b); });
  }
  float step(uint8_t code) const { return step_of(dtype_, code); }
  // The ends of the steps.
  float lowest() const { return is_table(kind_) ? step(order_[0]) : static_cast<float>(low_ - zero_); }
  float highest() const { return is_table(kind_) ? step(order_[15]) : static_cast<float>(high_ - zero_); }
  uint8_t nearest(float steps) const {
    // Clamped as a float first: a subnormal f16 scale can be far below the exact one.
    const float t = std::clamp(steps, -1000.0f, 1000.0f);
    if (!is_table(kind_)) return static_cast<uint8_t>(std::clamp(round_to_int(t) + zero_, low_, high_));
    size_t at = 0;
    for (size_t i = 1; i < 16; ++i) at += 2 * t > step(order_[i - 1]) + step(order_[i]) ? 1 : 0;
    return order_[at];
  }

 private:
  DType dtype_;
  CodeKind kind_;
  int32_t low_, high_, zero_;
  std::array<uint8_t, 16> order_{};  // of a table, by steps
};

// The scale and the minimum of some values, and the squared error with the nearest codes.
struct Fit {
  float scale = 0, minimum = 0;
  float error = std::numeric_limits<float>::infinity();
};

// (Here and below codes are passed by value where bytes are written: a reference would be read again after
// each.) Codes of `x` at a scale and a minimum; returns the squared error.
float round_codes(const Codes codes, std::span<const float> x, float scale, float minimum, uint8_t* out) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  float error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] = codes.nearest((x[i] - minimum) * inverse);
    const float e = x[i] - (scale * codes.step(out[i]) + minimum);
    error += e * e;
  }
  return error;
}

// The scale that fits the codes best (least squares), without a minimum; 0 where all codes mean 0.
float fitted_scale(const Codes codes, std::span<const float> x, const uint8_t* q) {
  float xq = 0, qq = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float step = codes.step(q[i]);
    xq += x[i] * step;
    qq += step * step;
  }
  return qq > 0 ? xq / qq : 0;
}

// Without a minimum: the extreme value at the end of the codes on its side or on the other (with a negative
// scale), or up to a fifth before and beyond it, each fitted.
Fit fit_scale(const Codes& codes, std::span<const float> x) {
  float low = 0, high = 0;
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  const float extreme = -low > high ? low : high;
  Fit best;
  if (extreme == 0) return {0, 0, 0};
  std::array<uint8_t, kGroupValues> q;
  for (const float end : {codes.lowest(), codes.highest()})
    for (int i = -6; i <= 6; ++i) {
      const float scale = extreme / (end * (1 + 0.03f * static_cast<float>(i)));
      round_codes(codes, x, scale, 0, q.data());
      const float fitted = fitted_scale(codes, x, q.data());
      const float error = round_codes(codes, x, fitted, 0, q.data());
      if (error < best.error) best = {fitted, 0, error};
    }
  // Squares beyond the floats: a scale that its f16 will refuse.
  if (!std::isfinite(best.error)) best.scale = extreme / codes.lowest();
  return best;
}

// With a minimum, which is not above 0 unless it may have any sign: the range of the values, or somewhat
// less, each fitted by least squares.
Fit fit_range(const Codes& codes, std::span<const float> x, bool any_sign = false) {
  float low = any_sign ? x[0] : std::min(0.0f, x[0]), high = x[0];
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  if (high <= low) return {0, low, round_codes(codes, x, 0, low, std::array<uint8_t, kGroupValues>{}.data())};
  const float most = codes.highest();
  const auto n = static_cast<float>(x.size());
  Fit best;
  std::array<uint8_t, kGroupValues> q;
  for (int i = -8; i <= 8; ++i) {
    const float first = (high - low) / (most * (1 + 0.04f * static_cast<float>(i)));
    round_codes(codes, x, first, low, q.data());
    float s = 0, ss = 0, sx = 0, sum = 0;
    for (size_t j = 0; j < x.size(); ++j) {
      const float step = codes.step(q[j]);
      s += step, ss += step * step, sx += step * x[j], sum += x[j];
    }
    const float determinant = n * ss - s * s;
    if (determinant <= 0) continue;
    float scale = (n * sx - s * sum) / determinant, minimum = (ss * sum - s * sx) / determinant;
    if (minimum > 0 && !any_sign) minimum = 0, scale = sx / ss;
    if (scale <= 0) continue;
    const float error = round_codes(codes, x, scale, minimum, q.data());
    if (error < best.error) best = {scale, minimum, error};
  }
  if (!std::isfinite(best.error)) best = {(high - low) / most, low, 0};
  return best;
}

// ---- an f16 for each group ------------------------------------------------------------------------------

void quantize_codes(const Codes codes, const float* x, float shift, float scale, BlockGroup& group) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  for (size_t i = 0; i < kGroupValues; ++i) group.codes[i] = codes.nearest((x[i] - shift) * inverse);
}

float squared_error(const Codes codes, const float* x, const BlockGroup& group) {
  const float d = f16_to_f32(group.scale);
  float error = 0;
  for (size_t i = 0; i < kGroupValues; ++i) {
    const float e = x[i] - d * codes.step(group.codes[i]);
    error += e * e;
  }
  return error;
}

// `extreme` becomes the first of `ends` or, where that leaves a smaller squared error, another of them with
// the scale fitted to all codes of the group. A single one is taken as it is.
BlockGroup quantize_symmetric(DType dtype, const Codes& codes, const float* x, float extreme,
                              std::span<const float> ends) {
  const auto at = [&](float end) {
    BlockGroup group;
    group.scale = f32_to_f16(extreme / end);
    quantize_codes(codes, x, 0, f16_to_f32(group.scale), group);
    return group;
  };
  BlockGroup best = at(ends[0]);
  if (!f16_is_finite(best.scale)) return not_representable(dtype);
  float least = squared_error(codes, x, best);
  for (const float end : ends) {
    if (ends.size() == 1 || least == 0) break;  // nothing to choose, or already exact
    BlockGroup group = at(end);
    const float fitted = fitted_scale(codes, {x, kGroupValues}, group.codes.data());
    if (fitted != 0) group.scale = f32_to_f16(fitted);
    const float error = squared_error(codes, x, group);
    if (!(error < least) || !f16_is_finite(group.scale)) continue;
    least = error;
    best = group;
  }
  quantize_codes(codes, x, 0, f16_to_f32(best.scale), best);  // nearest to the fitted scale
  return best;
}

// Codes about a zero: the signed extreme at the least of them (q4: -8, as GGUF's Q4_0), or up to a tenth of
// that before and beyond it.
BlockGroup quantize_about_zero(DType dtype, const Codes& codes, const float* x) {
  const float least = codes.lowest();
  const std::array<float, 7> ends = {least,          least * 0.9f,    least * 0.9375f, least * 0.975f,
                                     least * 1.025f, least * 1.0625f, least * 1.1f};
  float low = 0, high = 0;
  for (size_t i = 0; i < kGroupValues; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return quantize_symmetric(dtype, codes, x, -low > high ? low : high, ends);
}

// Signed codes: the largest magnitude at the largest of them (q8: 127) or at one of the 16 below. More scales
// leave less where there is a grid, and a conversion takes as much longer.
BlockGroup quantize_signed(DType dtype, const Codes& codes, const float* x, ScaleSearch search) {
  std::array<float, 17> ends{};
  for (size_t i = 0; i < ends.size(); ++i)
    ends[i] = static_cast<float>(largest_code(dtype) - static_cast<int32_t>(i));
  float extreme = 0;
  for (size_t i = 0; i < kGroupValues; ++i) extreme = std::max(extreme, std::abs(x[i]));
  const size_t tried = search == ScaleSearch::kFitted ? ends.size() : 1;
  return quantize_symmetric(dtype, codes, x, extreme, std::span(ends).first(tried));
}

// Unsigned codes above a minimum. `count` < 32 only in a row's last group, whose missing inputs must be exact
// zeros: d*q + m = 0 needs an m that is a multiple of d in f16, which d times a code in the middle always is
// (q4a: -8d).
BlockGroup quantize_above_minimum(DType dtype, const Codes& codes, const float* x, size_t count) {
  const int32_t most = largest_code(dtype);
  if (count < kGroupValues) {
    // The format of the same codes with a zero in their middle, and that zero as the minimum.
    const DType twin = code_bits(dtype) == 4 ? DType::kQ4 : DType::kQ5;
    BlockGroup group = quantize_about_zero(twin, Codes(twin), x);
    group.minimum = f32_to_f16(static_cast<float>(-info_of(twin).zero) * f16_to_f32(group.scale));
    return f16_is_finite(group.minimum) ? group : not_representable(dtype);
  }
  float low = x[0], high = x[0];
  for (size_t i = 1; i < kGroupValues; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  const auto steps = static_cast<float>(most);
  BlockGroup group;
  group.scale = f32_to_f16(high / steps - low / steps);
  group.minimum = f32_to_f16(low);
  if (!f16_is_finite(group.scale) || !f16_is_finite(group.minimum)) return not_representable(dtype);
  const auto error_of = [&](BlockGroup& tried) {
    return round_codes(codes, {x, kGroupValues}, f16_to_f32(tried.scale), f16_to_f32(tried.minimum),
                       tried.codes.data());
  };
  const float error = error_of(group);
  const Fit fit = fit_range(codes, {x, kGroupValues}, true);
  BlockGroup fitted;
  fitted.scale = f32_to_f16(fit.scale);
  fitted.minimum = f32_to_f16(fit.minimum);
  const bool better =
      f16_is_finite(fitted.scale) && f16_is_finite(fitted.minimum) && error_of(fitted) < error;
  return better ? fitted : group;
}

BlockGroup quantize_own_scale(DType dtype, const Codes& codes, const float* x, size_t count,
                              ScaleSearch search) {
  if (has_minimum(dtype)) return quantize_above_minimum(dtype, codes, x, count);
  return info_of(dtype).codes == CodeKind::kSigned ? quantize_signed(dtype, codes, x, search)
                                                   : quantize_about_zero(dtype, codes, x);
}

// ---- super-blocks ---------------------------------------------------------------------------------------

struct Range {
  int32_t low, high;
};
Range range_of(FactorKind kind) {
  switch (kind) {
    case FactorKind::kSuper4:
      return {0, 15};
    case FactorKind::kSuper6:
      return {0, 63};
    case FactorKind::kSuperSigned6:
      return {-32, 31};
    case FactorKind::kSuperSigned8:
      return {-128, 127};
    default:
      return {1, 1};
  }
}
// The f16 that takes the farthest of the values to the end of the range.
uint16_t super_half(Range range, std::span<const float> values) {
  float extreme = 0;
  for (const float v : values)
    if (std::abs(v) > std::abs(extreme)) extreme = v;
  return f32_to_f16(extreme / static_cast<float>(range.low < 0 ? range.low : range.high));
}
uint8_t stored(FactorKind kind, int32_t factor) {
  return static_cast<uint8_t>(kind == FactorKind::kSuperSigned6 ? factor + 32 : factor);
}

// The factors of one part (16 or 32 values) beside those that its fit asks for; the codes with the best.
void round_factors(DType dtype, const Codes& codes, const float* x, size_t size, const Fit& fit, size_t half,
                   BlockGroup& group) {
  const DTypeInfo& info = info_of(dtype);
  const Range scales = range_of(info.scale), minima = range_of(info.minimum);
  const auto near = [](float wanted, uint16_t half_bits, Range range) {
    const float d = f16_to_f32(half_bits);
    const float t = d == 0 ? 0.0f : std::clamp(wanted / d, -1000.0f, 1000.0f);
    return std::clamp(round_to_int(t), range.low, range.high);
  };
  const int32_t scale = near(fit.scale, group.scale, scales);
  const int32_t least = has_minimum(dtype) ? near(-fit.minimum, group.minimum, minima) : 0;
  const int32_t step = info.scale == FactorKind::kSuper ? 0 : 1, turn = has_minimum(dtype) ? 1 : 0;
  BlockGroup best = group;
  float error = std::numeric_limits<float>::infinity();
  for (int32_t s = scale - step; s <= scale + step; ++s)
    for (int32_t m = least - turn; m <= least + turn; ++m) {
      if (s < scales.low || s > scales.high || (turn && (m < minima.low || m > minima.high))) continue;
      BlockGroup tried = group;
      tried.factor[half] = stored(info.scale, s);
      tried.least[half] = stored(info.minimum, m);
      const float e = round_codes(codes, {x, size}, scale_of(dtype, tried, half),
                                  minimum_of(dtype, tried, half), tried.codes.data() + half * size);
      if (e < error) error = e, best = tried;
    }
  group = best;
}

// `x`: up to 256 values, padded with zeros to whole groups.
void quantize_super(DType dtype, const Codes& codes, const float* x, size_t groups, BlockGroup* out) {
  const DTypeInfo& info = info_of(dtype);
  const auto size =
      info.scale == FactorKind::kSuper ? groups * kGroupValues : static_cast<size_t>(info.group);
  const size_t parts = groups * kGroupValues / size;
  std::vector<Fit> fits(parts);
  std::vector<float> scales(parts), minima(parts);
  for (size_t p = 0; p < parts; ++p) {
    const std::span values(x + p * size, size);
    if (info.scale == FactorKind::kSuper) {
      // One scale for all: the fit of whole super-blocks, in pieces a group long.
      float best = std::numeric_limits<float>::infinity(), extreme = 0;
      for (const float v : values) extreme = std::max(extreme, std::abs(v));
      std::vector<uint8_t> q(size);
      for (int i = 0; i <= 12; ++i) {
        round_codes(codes, values, extreme * (1 - 0.05f * static_cast<float>(i)), 0, q.data());
        const float fitted = fitted_scale(codes, values, q.data());
        const float error = round_codes(codes, values, fitted, 0, q.data());
        if (error < best) best = error, fits[p] = {fitted, 0, error};
      }
    } else {
      fits[p] = has_minimum(dtype) ? fit_range(codes, values) : fit_scale(codes, values);
    }
    scales[p] = fits[p].scale;
    minima[p] = -fits[p].minimum;
  }
  const uint16_t scale = super_half(range_of(info.scale), scales);
  const uint16_t minimum = has_minimum(dtype) ? super_half(range_of(info.minimum), minima) : uint16_t{0};
  const bool fits_half = f16_is_finite(scale) && f16_is_finite(minimum);
  for (size_t g = 0; g < groups; ++g) {
    out[g] = zero_group(dtype);
    if (!fits_half) {
      out[g] = not_representable(dtype);
      continue;
    }
    out[g].scale = scale;
    out[g].minimum = minimum;
    const size_t halves = scales_of_32(dtype), part = kGroupValues / halves;
    for (size_t half = 0; half < halves; ++half)
      round_factors(dtype, codes, x + g * kGroupValues + half * part, part,
                    fits[info.scale == FactorKind::kSuper ? 0 : g * halves + half], half, out[g]);
  }
}

// ---- scales that are floats of 8 bits ---------------------------------------------------------------------

// The best of the scales of 8 bits about the one that takes the farthest value to the last code.
void round_float_scale(DType dtype, const Codes& codes, const float* x, size_t size, size_t half,
                       BlockGroup& group) {
  const bool power = info_of(dtype).scale == FactorKind::kE8M0;
  float extreme = 0;
  for (size_t i = 0; i < size; ++i) extreme = std::max(extreme, std::abs(x[i]));
  const int most = power ? 254 : 0x7E;
  const auto scale_at = [&](int factor) {
    group.factor[half] = static_cast<uint8_t>(factor);
    return scale_of(dtype, group, half);
  };
  if (extreme == 0) return void(scale_at(0));
  int first = 0;  // the least that reaches the extreme
  for (int bit = 128; bit > 0; bit /= 2)
    if (first + bit <= most && scale_at(first + bit) * codes.highest() < extreme) first += bit;
  if (first == most && scale_at(most) * codes.highest() * 1.1f < extreme) {
    group = not_representable(dtype);
    return;
  }
  float error = std::numeric_limits<float>::infinity();
  int best = first;
  std::array<uint8_t, kGroupValues> q;
  for (int factor = first - (power ? 1 : 2); factor <= first + 2; ++factor) {
    if (factor < 0 || factor > most) continue;
    const float e = round_codes(codes, {x, size}, scale_at(factor), 0, q.data());
    if (e < error) error = e, best = factor;
  }
  round_codes(codes, {x, size}, scale_at(best), 0, group.codes.data() + half * size);
}

// The scale of a row: its farthest value at the last code under the largest scale of 8 bits.
float row_scale(DType dtype, const Codes& codes, std::span<const float> row) {
  if (info_of(dtype).scale != FactorKind::kE4M3) return 1;
  float extreme = 0;
  for (const float v : row)
    if (std::isfinite(v)) extreme = std::max(extreme, std::abs(v));
  const float scale = extreme / (codes.highest() * 224);  // 224: half of 448
  return scale >= std::numeric_limits<float>::min() ? scale : 1;
}

}  // namespace

void quantize_row(DType dtype, std::span<const float> row, ScaleSearch search, BlockGroup* groups) {
  const Codes codes(dtype);
  const FactorKind kind = info_of(dtype).scale;
  const size_t together = is_super(kind) ? kSuperGroups : 1;
  const float own = row_scale(dtype, codes, row);
  std::array<float, kSuperGroups * kGroupValues> padded;
  for (size_t begin = 0; begin < row.size(); begin += together * kGroupValues) {
    const size_t count = std::min(together * kGroupValues, row.size() - begin);
    const size_t here = (count + kGroupValues - 1) / kGroupValues;
    std::copy_n(row.begin() + static_cast<std::ptrdiff_t>(begin), count, padded.begin());
    std::fill(padded.begin() + static_cast<std::ptrdiff_t>(count),
              padded.begin() + static_cast<std::ptrdiff_t>(here * kGroupValues), 0.0f);
    BlockGroup* out = groups + begin / kGroupValues;
    if (has_bad_value({padded.data(), count})) {
      std::fill_n(out, here, not_representable(dtype));
    } else if (is_super(kind)) {
      quantize_super(dtype, codes, padded.data(), here, out);
    } else if (kind == FactorKind::kF16) {
      *out = quantize_own_scale(dtype, codes, padded.data(), count, search);
    } else {
      *out = zero_group(dtype);
      out->row_scale = own;
      const size_t halves = scales_of_32(dtype), size = kGroupValues / halves;
      for (size_t half = 0; half < halves; ++half)
        round_float_scale(dtype, codes, padded.data() + half * size, size, half, *out);
      if (!is_finite(dtype, *out)) *out = not_representable(dtype);
    }
    for (size_t g = 0; g < here; ++g) out[g].row_scale = own;
  }
}

}  // namespace linnet::format
