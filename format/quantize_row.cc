// Rounding to block formats. q8, q4, q4a, q5 and q5a round as ggml's formats of these shapes, with a search
// over scales; formats with super-blocks find the scale (and the minimum) of every group first, then the
// super-block's f16, then round each group's own factor to the one that leaves the least error.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "format/block_group.h"
#include "format/fit.h"

namespace linnet::format {
namespace {

constexpr auto kGroupValues = static_cast<size_t>(kGroupSize);
constexpr auto kSuperGroups = static_cast<size_t>(kSuperBlock / kGroupSize);
constexpr uint16_t kHalfNan = 0x7E00;

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

Importance part_of(Importance importance, size_t begin, size_t count) {
  return importance.empty() ? importance : importance.subspan(begin, count);
}

// ---- an f16 for each group ------------------------------------------------------------------------------

void quantize_codes(const Codes codes, const float* x, float shift, float scale, BlockGroup& group) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  for (size_t i = 0; i < kGroupValues; ++i) group.codes[i] = codes.nearest((x[i] - shift) * inverse);
}

float squared_error(const Codes codes, const float* x, const BlockGroup& group, Importance importance) {
  const float d = f16_to_f32(group.scale);
  float error = 0;
  for (size_t i = 0; i < kGroupValues; ++i) {
    const float e = x[i] - d * codes.step(group.codes[i]);
    error += importance.empty() ? e * e : importance[i] * (e * e);
  }
  return error;
}

// `extreme` becomes the first of `ends` or, where that leaves a smaller squared error, another of them with
// the scale fitted to all codes of the group. A single one is taken as it is.
BlockGroup quantize_symmetric(DType dtype, const Codes& codes, const float* x, float extreme,
                              std::span<const float> ends, Importance importance) {
  const auto at = [&](float end) {
    BlockGroup group;
    group.scale = f32_to_f16(extreme / end);
    quantize_codes(codes, x, 0, f16_to_f32(group.scale), group);
    return group;
  };
  BlockGroup best = at(ends[0]);
  if (!f16_is_finite(best.scale)) return not_representable(dtype);
  float least = squared_error(codes, x, best, importance);
  for (const float end : ends) {
    if (ends.size() == 1 || least == 0) break;  // nothing to choose, or already exact
    BlockGroup group = at(end);
    const float fitted = fitted_scale(codes, {x, kGroupValues}, group.codes.data(), importance);
    if (fitted != 0) group.scale = f32_to_f16(fitted);
    const float error = squared_error(codes, x, group, importance);
    if (!(error < least) || !f16_is_finite(group.scale)) continue;
    least = error;
    best = group;
  }
  quantize_codes(codes, x, 0, f16_to_f32(best.scale), best);  // nearest to the fitted scale
  return best;
}

// Codes about a zero: the signed extreme at the least of them (q4: -8, as GGUF's Q4_0), or up to a tenth of
// that before and beyond it.
BlockGroup quantize_about_zero(DType dtype, const Codes& codes, const float* x, Importance importance) {
  const float least = codes.lowest();
  const std::array<float, 7> ends = {least,          least * 0.9f,    least * 0.9375f, least * 0.975f,
                                     least * 1.025f, least * 1.0625f, least * 1.1f};
  float low = 0, high = 0;
  for (size_t i = 0; i < kGroupValues; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return quantize_symmetric(dtype, codes, x, -low > high ? low : high, ends, importance);
}

// Signed codes: the largest magnitude at the largest of them (q8: 127) or at one of the 16 below. More scales
// leave less where there is a grid, and a conversion takes as much longer.
BlockGroup quantize_signed(DType dtype, const Codes& codes, const float* x, ScaleSearch search,
                           Importance importance) {
  std::array<float, 17> ends{};
  for (size_t i = 0; i < ends.size(); ++i)
    ends[i] = static_cast<float>(largest_code(dtype) - static_cast<int32_t>(i));
  float extreme = 0;
  for (size_t i = 0; i < kGroupValues; ++i) extreme = std::max(extreme, std::abs(x[i]));
  const size_t tried = search == ScaleSearch::kFitted ? ends.size() : 1;
  return quantize_symmetric(dtype, codes, x, extreme, std::span(ends).first(tried), importance);
}

// Unsigned codes above a minimum. `count` < 32 only in a row's last group, whose missing inputs must be exact
// zeros: d*q + m = 0 needs an m that is a multiple of d in f16, which d times a code in the middle always is
// (q4a: -8d).
BlockGroup quantize_above_minimum(DType dtype, const Codes& codes, const float* x, size_t count,
                                  Importance importance) {
  const int32_t most = largest_code(dtype);
  if (count < kGroupValues) {
    // The format of the same codes with a zero in their middle, and that zero as the minimum.
    const DType twin = code_bits(dtype) == 4 ? DType::kQ4 : DType::kQ5;
    BlockGroup group = quantize_about_zero(twin, Codes(twin), x, importance);
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
                       tried.codes.data(), importance);
  };
  const float error = error_of(group);
  const Fit fit = fit_range(codes, {x, kGroupValues}, true, importance);
  BlockGroup fitted;
  fitted.scale = f32_to_f16(fit.scale);
  fitted.minimum = f32_to_f16(fit.minimum);
  const bool better =
      f16_is_finite(fitted.scale) && f16_is_finite(fitted.minimum) && error_of(fitted) < error;
  return better ? fitted : group;
}

BlockGroup quantize_own_scale(DType dtype, const Codes& codes, const float* x, size_t count,
                              ScaleSearch search, Importance importance) {
  if (has_minimum(dtype)) return quantize_above_minimum(dtype, codes, x, count, importance);
  return info_of(dtype).codes == CodeKind::kSigned ? quantize_signed(dtype, codes, x, search, importance)
                                                   : quantize_about_zero(dtype, codes, x, importance);
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
                   BlockGroup& group, Importance importance) {
  const DTypeInfo& info = info_of(dtype);
  const Range scales = range_of(info.scale), minima = range_of(info.minimum);
  const auto near = [](float wanted, uint16_t half_bits, Range range) {
    const float d = f16_to_f32(half_bits);
    const float t = d == 0 ? 0.0f : std::clamp(wanted / d, -1000.0f, 1000.0f);
    return std::clamp(nearest_integer(t), range.low, range.high);
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
      const float e =
          round_codes(codes, {x, size}, scale_of(dtype, tried, half), minimum_of(dtype, tried, half),
                      tried.codes.data() + half * size, importance);
      if (e < error) error = e, best = tried;
    }
  group = best;
}

Fit fit_of(DType dtype, const Codes& codes, std::span<const float> x, Importance importance) {
  return has_minimum(dtype) ? fit_range(codes, x, false, importance) : fit_scale(codes, x, importance);
}

// `x`: up to 256 values, padded with zeros to whole groups.
void quantize_super(DType dtype, const Codes& codes, const float* x, size_t groups, BlockGroup* out,
                    Importance importance) {
  const DTypeInfo& info = info_of(dtype);
  const auto size =
      info.scale == FactorKind::kSuper ? groups * kGroupValues : static_cast<size_t>(info.group);
  const size_t parts = groups * kGroupValues / size;
  std::vector<Fit> fits(parts);
  std::vector<float> scales(parts), minima(parts);
  for (size_t p = 0; p < parts; ++p) {
    const std::span values(x + p * size, size);
    const Importance counts = part_of(importance, p * size, size);
    if (info.scale == FactorKind::kSuper) {
      // One scale for the whole super-block.
      float best = std::numeric_limits<float>::infinity(), extreme = 0;
      for (const float v : values) extreme = std::max(extreme, std::abs(v));
      std::vector<uint8_t> q(size);
      for (int i = 0; i <= 12; ++i) {
        round_codes(codes, values, extreme * (1 - 0.05f * static_cast<float>(i)), 0, q.data());
        const float fitted = fitted_scale(codes, values, q.data(), counts);
        const float error = round_codes(codes, values, fitted, 0, q.data(), counts);
        if (error < best) best = error, fits[p] = {fitted, 0, error};
      }
    } else {
      fits[p] = fit_of(dtype, codes, values, counts);
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
                    fits[info.scale == FactorKind::kSuper ? 0 : g * halves + half], half, out[g],
                    part_of(importance, g * kGroupValues + half * part, part));
  }
}

// ---- scales that are floats of 8 bits ---------------------------------------------------------------------

// The best of the scales of 8 bits about the one that takes the farthest value to the last code.
void round_float_scale(DType dtype, const Codes& codes, const float* x, size_t size, size_t half,
                       BlockGroup& group, Importance importance) {
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
    const float e = round_codes(codes, {x, size}, scale_at(factor), 0, q.data(), importance);
    if (e < error) error = e, best = factor;
  }
  round_codes(codes, {x, size}, scale_at(best), 0, group.codes.data() + half * size);
}

void quantize_float_scales(DType dtype, const Codes& codes, const float* x, Importance importance,
                           BlockGroup& group) {
  const size_t halves = scales_of_32(dtype), size = kGroupValues / halves;
  for (size_t half = 0; half < halves; ++half)
    round_float_scale(dtype, codes, x + half * size, size, half, group,
                      part_of(importance, half * size, size));
  if (!is_finite(dtype, group)) group = not_representable(dtype);
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

void quantize_row(DType dtype, std::span<const float> row, ScaleSearch search, BlockGroup* groups,
                  std::span<const float> importance) {
  const Codes codes(dtype);
  const FactorKind kind = info_of(dtype).scale;
  const size_t together = is_super(kind) ? kSuperGroups : 1;
  const float own = row_scale(dtype, codes, row);
  std::array<float, kSuperGroups * kGroupValues> padded, weights;
  for (size_t begin = 0; begin < row.size(); begin += together * kGroupValues) {
    const size_t count = std::min(together * kGroupValues, row.size() - begin);
    const size_t here = (count + kGroupValues - 1) / kGroupValues;
    const auto pad = [&](std::span<const float> from, auto& to) {
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(begin), count, to.begin());
      std::fill(to.begin() + static_cast<std::ptrdiff_t>(count),
                to.begin() + static_cast<std::ptrdiff_t>(here * kGroupValues), 0.0f);
    };
    pad(row, padded);
    Importance counts;
    if (!importance.empty()) {
      pad(importance, weights);
      counts = {weights.data(), here * kGroupValues};
    }
    BlockGroup* out = groups + begin / kGroupValues;
    if (has_bad_value({padded.data(), count})) {
      std::fill_n(out, here, not_representable(dtype));
    } else if (is_super(kind)) {
      quantize_super(dtype, codes, padded.data(), here, out, counts);
    } else if (kind == FactorKind::kF16) {
      *out = quantize_own_scale(dtype, codes, padded.data(), count, search, counts);
    } else {
      *out = zero_group(dtype);
      out->row_scale = own;
      quantize_float_scales(dtype, codes, padded.data(), counts, *out);
    }
    for (size_t g = 0; g < here; ++g) out[g].row_scale = own;
  }
}

void refit_group(DType dtype, std::span<const float, kGroupSize> values, std::span<const float> importance,
                 BlockGroup& group) {
  const Codes codes(dtype);
  const FactorKind kind = info_of(dtype).scale;
  const float own = group.row_scale;
  if (has_bad_value(values)) {
    group = not_representable(dtype);
  } else if (is_super(kind)) {
    const size_t halves = scales_of_32(dtype), size = kGroupValues / halves;
    for (size_t half = 0; half < halves; ++half) {
      const std::span part = values.subspan(half * size, size);
      const Importance counts = part_of(importance, half * size, size);
      const Fit fit = kind == FactorKind::kSuper ? Fit{} : fit_of(dtype, codes, part, counts);
      round_factors(dtype, codes, part.data(), size, fit, half, group, counts);
    }
  } else if (kind == FactorKind::kF16) {
    group = quantize_own_scale(dtype, codes, values.data(), kGroupValues, ScaleSearch::kFitted, importance);
  } else {
    quantize_float_scales(dtype, codes, values.data(), importance, group);
  }
  group.row_scale = own;
}

}  // namespace linnet::format
