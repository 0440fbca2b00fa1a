#include "format/block_group.h"

#include <cmath>

namespace linnet::format {
namespace {

// A float of 8 bits without a sign: four of exponent (bias 7), three of mantissa; 0x7F is no number.
float e4m3(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (bits == 0x7F) return NAN;
  return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                       : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

float factor_value(FactorKind kind, uint16_t half, uint8_t factor) {
  switch (kind) {
    case FactorKind::kNone:
      return 0;
    case FactorKind::kF16:
    case FactorKind::kSuper:
      return f16_to_f32(half);
    case FactorKind::kSuper4:
    case FactorKind::kSuper6:
      return f16_to_f32(half) * static_cast<float>(factor);
    case FactorKind::kSuperSigned6:
      return f16_to_f32(half) * static_cast<float>(factor - 32);
    case FactorKind::kSuperSigned8:
      return f16_to_f32(half) * static_cast<float>(static_cast<int8_t>(factor));
    case FactorKind::kE8M0:
      return factor == 255 ? NAN : std::ldexp(1.0f, factor - 128);
    case FactorKind::kE4M3:
      return 0.5f * e4m3(factor);
  }
  return 0;
}

bool factor_is_finite(FactorKind kind, uint16_t half, uint8_t factor) {
  if (kind == FactorKind::kE8M0) return factor != 255;
  if (kind == FactorKind::kE4M3) return factor < 0x7F;
  return kind == FactorKind::kNone || f16_is_finite(half);
}

}  // namespace

float scale_of(DType dtype, const BlockGroup& group, size_t half) {
  const FactorKind kind = info_of(dtype).scale;
  const float value = factor_value(kind, group.scale, group.factor[half]);
  return kind == FactorKind::kE4M3 ? value * group.row_scale : value;
}

float minimum_of(DType dtype, const BlockGroup& group, size_t half) {
  const FactorKind kind = info_of(dtype).minimum;
  const float value = factor_value(kind, group.minimum, group.least[half]);
  return is_super(kind) ? -value : value;
}

float step_of(DType dtype, uint8_t code) {
  const DTypeInfo& info = info_of(dtype);
  if (is_table(info.codes)) return static_cast<float>(steps_of_table(info.codes)[code & 15]);
  return info.codes == CodeKind::kSigned ? static_cast<float>(static_cast<int8_t>(code))
                                         : static_cast<float>(code - info.zero);
}

void values_of(DType dtype, const BlockGroup& group, float* values) {
  const auto size = static_cast<size_t>(info_of(dtype).group);
  for (size_t half = 0; half < scales_of_32(dtype); ++half) {
    const float scale = scale_of(dtype, group, half), minimum = minimum_of(dtype, group, half);
    for (size_t i = half * size; i < (half + 1) * size; ++i) {
      values[i] = scale * step_of(dtype, group.codes[i]);
      if (has_minimum(dtype)) values[i] += minimum;
    }
  }
}

BlockGroup zero_group(DType dtype) {
  const DTypeInfo& info = info_of(dtype);
  BlockGroup group;
  group.codes.fill(static_cast<uint8_t>(info.zero));
  // A factor that means 0 where the super-block's f16 is another group's.
  if (info.scale == FactorKind::kSuperSigned6)
    for (size_t half = 0; half < scales_of_32(dtype); ++half) group.factor[half] = 32;
  return group;
}

bool is_finite(DType dtype, const BlockGroup& group) {
  const DTypeInfo& info = info_of(dtype);
  bool finite = std::isfinite(group.row_scale);
  for (size_t half = 0; half < scales_of_32(dtype); ++half)
    finite &= factor_is_finite(info.scale, group.scale, group.factor[half]) &&
              factor_is_finite(info.minimum, group.minimum, group.least[half]);
  return finite;
}

}  // namespace linnet::format
