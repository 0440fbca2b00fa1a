#include "format/panel.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

// The bytes of a file are the bytes in memory; container.h refuses files of the other byte order.
static_assert(std::endian::native == std::endian::little,
              "Linnet files are little-endian and mapped as they are");

namespace linnet::format {
namespace {

constexpr auto kRows = static_cast<size_t>(kPanelRows);
constexpr auto kGroup = static_cast<size_t>(kGroupSize);
constexpr uint16_t kHalfNan = 0x7E00;

// What the functions here know. Another kind of format is a row in dtypes.def and its arithmetic here.
constexpr bool is_known(DType dtype) {
  const DTypeInfo& info = info_of(dtype);
  const bool codes = info.codes == CodeKind::kSigned
                         ? info.bits == 8 && info.zero == 0 && !has_minimum(dtype)
                         : info.bits == 4 && (info.zero == 0) == has_minimum(dtype);
  return codes && info.group == kGroupSize && info.scale == FactorKind::kF16;
}
static_assert(
    [] {
      for (const DType dtype : kBlockTypes)
        if (!is_known(dtype)) return false;
      return true;
    }(),
    "dtypes.def has a kind of format that panel.cc cannot pack and unpack");

// One row's group: what GGUF stores, with the codes still one per byte.
struct Group {
  uint16_t scale = 0;
  uint16_t minimum = 0;
  std::array<uint8_t, kGroup> codes{};
};

bool half_is_finite(uint16_t bits) { return (bits & 0x7C00u) != 0x7C00u; }

// Round to nearest even for |x| < 2^22 with one addition, which vectorises on the SSE2 baseline where
// nearbyint() is a call. Larger or NaN values give a meaningless integer; callers clamp it.
int32_t round_to_int(float x) { return std::bit_cast<int32_t>(x + 12582912.0f) - 0x4B400000; }

// codes = clamp(round((x - shift) / scale) + bias, low, high), and no division by a zero scale.
void quantize_codes(const float* x, float shift, float scale, int32_t bias, int32_t low, int32_t high,
                    std::array<uint8_t, kGroup>& codes) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  for (size_t i = 0; i < kGroup; ++i) {
    // Clamped as a float first: a subnormal f16 scale can be far below the exact one.
    const float t = std::clamp((x[i] - shift) * inverse, -1000.0f, 1000.0f);
    codes[i] = static_cast<uint8_t>(std::clamp(round_to_int(t) + bias, low, high));
  }
}

// Damage stays visible: a NaN scale makes every weight of the group NaN instead of some plausible number.
Group not_representable() {
  Group group;
  group.scale = group.minimum = kHalfNan;
  return group;
}

// How the codes of a format without minima are stored.
struct SymmetricCodes {
  int32_t bias, low, high;  // code + bias is stored, within [low, high]
  float value(uint8_t stored) const {
    return bias == 0 ? static_cast<float>(static_cast<int8_t>(stored)) : static_cast<float>(stored - bias);
  }
};
int32_t largest_code(DType dtype) {
  const size_t signs = info_of(dtype).codes == CodeKind::kSigned ? 1 : 0;
  return (int32_t{1} << (code_bits(dtype) - signs)) - 1;
}
SymmetricCodes symmetric_codes(DType dtype) {
  const int32_t high = largest_code(dtype);
  return {info_of(dtype).zero, info_of(dtype).codes == CodeKind::kSigned ? -high : 0, high};
}

float squared_error(const float* x, const Group& group, const SymmetricCodes& kind) {
  const float d = f16_to_f32(group.scale);
  float error = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    const float e = x[i] - d * kind.value(group.codes[i]);
    error += e * e;
  }
  return error;
}

// The scale that fits the codes best (least squares).
uint16_t fitted_scale(const float* x, const Group& group, const SymmetricCodes& kind) {
  float xq = 0, qq = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    const float q = kind.value(group.codes[i]);
    xq += x[i] * q;
    qq += q * q;
  }
  return qq > 0 ? f32_to_f16(xq / qq) : group.scale;
}

// `extreme` becomes the first of `codes` or, where that leaves a smaller squared error, another of them with
// the scale fitted to all codes of the group. A single one is taken as it is.
Group quantize_symmetric(const float* x, float extreme, std::span<const float> codes,
                         const SymmetricCodes& kind) {
  const auto at = [&](float code) {
    Group group;
    group.scale = f32_to_f16(extreme / code);
    quantize_codes(x, 0, f16_to_f32(group.scale), kind.bias, kind.low, kind.high, group.codes);
    return group;
  };
  Group best = at(codes[0]);
  if (!half_is_finite(best.scale)) return not_representable();
  float least = squared_error(x, best, kind);
  for (const float code : codes) {
    if (codes.size() == 1 || least == 0) break;  // nothing to choose, or already exact
    Group group = at(code);
    group.scale = fitted_scale(x, group, kind);
    const float error = squared_error(x, group, kind);
    if (!(error < least) || !half_is_finite(group.scale)) continue;
    least = error;
    best = group;
  }
  return best;
}

// Unsigned codes about a zero: the signed extreme at the least of them (q4: -8, as GGUF's Q4_0), or up to a
// tenth of that before and beyond it.
Group quantize_about_zero(const float* x, const SymmetricCodes& kind) {
  const auto least = static_cast<float>(-kind.bias);
  const std::array<float, 7> codes = {least,          least * 0.9f,    least * 0.9375f, least * 0.975f,
                                      least * 1.025f, least * 1.0625f, least * 1.1f};
  float low = 0, high = 0;
  for (size_t i = 0; i < kGroup; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return quantize_symmetric(x, -low > high ? low : high, codes, kind);
}

// Signed codes: the largest magnitude at the largest of them (q8: 127) or at one of the 16 below. More scales
// leave less where there is a grid, and a conversion takes as much longer.
Group quantize_signed(DType dtype, const float* x, ScaleSearch search) {
  std::array<float, 17> codes{};
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = static_cast<float>(largest_code(dtype) - static_cast<int32_t>(i));
  float extreme = 0;
  for (size_t i = 0; i < kGroup; ++i) extreme = std::max(extreme, std::abs(x[i]));
  const size_t tried = search == ScaleSearch::kFitted ? codes.size() : 1;
  return quantize_symmetric(x, extreme, std::span(codes).first(tried), symmetric_codes(dtype));
}

// Unsigned codes above a minimum. `count` < 32 only in a row's last group, whose missing inputs must be exact
// zeros: d*q + m = 0 needs an m that is a multiple of d in f16, which d times a code in the middle always is
// (q4a: -8d).
Group quantize_above_minimum(DType dtype, const float* x, size_t count) {
  const int32_t most = largest_code(dtype);
  if (count < kGroup) {
    const int32_t middle = (most + 1) / 2;
    Group group = quantize_about_zero(x, {middle, 0, most});
    group.minimum = f32_to_f16(static_cast<float>(-middle) * f16_to_f32(group.scale));
    return half_is_finite(group.minimum) ? group : not_representable();
  }
  float low = x[0], high = x[0];
  for (size_t i = 1; i < kGroup; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  const auto steps = static_cast<float>(most);
  Group group;
  group.scale = f32_to_f16(high / steps - low / steps);
  group.minimum = f32_to_f16(low);
  if (!half_is_finite(group.scale) || !half_is_finite(group.minimum)) return not_representable();
  quantize_codes(x, f16_to_f32(group.minimum), f16_to_f32(group.scale), 0, 0, most, group.codes);
  return group;
}

Group quantize(DType dtype, const float* x, size_t count, ScaleSearch search) {
  // min/max skip NaN, so it is looked for apart: 0 * x is 0 for every finite x and NaN otherwise.
  float probe = 0;
  for (size_t i = 0; i < kGroup; ++i) probe += x[i] * 0.0f;
  if (probe != 0.0f) return not_representable();
  if (has_minimum(dtype)) return quantize_above_minimum(dtype, x, count);
  return info_of(dtype).codes == CodeKind::kSigned ? quantize_signed(dtype, x, search)
                                                   : quantize_about_zero(x, symmetric_codes(dtype));
}

size_t block_count(int64_t k) { return (static_cast<size_t>(k) + kGroup - 1) / kGroup; }

// The codes of a row's group, one in a byte, as GGUF has them: in place, the first code_bits() * 4 bytes
// count.
void squeeze(DType dtype, std::array<uint8_t, kGroup>& codes) {
  if (code_bits(dtype) == 8) return;
  for (size_t i = 0; i < kGroup / 2; ++i)
    codes[i] = static_cast<uint8_t>(codes[i] | (codes[i + kGroup / 2] << 4));
}

// Code i of a row, from the codes of a block.
uint8_t code_at(DType dtype, const std::byte* codes, size_t row, size_t i) {
  const auto byte_at = [&](size_t at) {
    return static_cast<uint8_t>(codes[(at / 4 * kRows + row) * 4 + at % 4]);
  };
  if (code_bits(dtype) == 8) return byte_at(i);
  const uint8_t pair = byte_at(i % (kGroup / 2));
  return i < kGroup / 2 ? pair & 15u : pair >> 4;
}

// Writes one row of a block from its scales, its minima and its codes as GGUF has them. Four inputs of a row
// stay together in both layouts, so this moves 32-bit words.
void put_row(DType dtype, std::byte* block, size_t row, const std::byte* factors, const std::byte* codes) {
  const PanelBlock at = panel_block(dtype);
  const size_t scales = scale_bytes(dtype), minima = minimum_bytes(dtype);
  std::memcpy(block + at.scales + row * scales, factors, scales);
  std::memcpy(block + at.minima + row * minima, factors + scales, minima);
  const size_t words = code_bits(dtype) * kGroup / 32;
  for (size_t i = 0; i < words; ++i) std::memcpy(block + at.codes + (i * kRows + row) * 4, codes + i * 4, 4);
}

void put_row(DType dtype, std::byte* block, size_t row, Group group) {
  squeeze(dtype, group.codes);
  const std::array<uint16_t, 2> factors = {group.scale, group.minimum};
  put_row(dtype, block, row, reinterpret_cast<const std::byte*>(factors.data()),
          reinterpret_cast<const std::byte*>(group.codes.data()));
}

// Zero weights in the rows of a block from `row` on.
void clear_rows(DType dtype, std::byte* block, size_t row) {
  Group zero;
  zero.codes.fill(static_cast<uint8_t>(info_of(dtype).zero));
  for (; row < kRows; ++row) put_row(dtype, block, row, zero);
}

void pack_quantized(DType dtype, const float* values, size_t rows, size_t k, std::byte* panel,
                    ScaleSearch search) {
  std::array<float, kGroup> tail;
  for (size_t b = 0; b < block_count(static_cast<int64_t>(k)); ++b) {
    std::byte* block = panel + b * panel_block_bytes(dtype);
    clear_rows(dtype, block, rows);
    const size_t count = std::min(kGroup, k - b * kGroup);
    for (size_t r = 0; r < rows; ++r) {
      const float* x = values + r * k + b * kGroup;
      if (count < kGroup) {
        tail.fill(0);
        std::copy_n(x, count, tail.begin());
        x = tail.data();
      }
      put_row(dtype, block, r, quantize(dtype, x, count, search));
    }
  }
}

}  // namespace

size_t panel_bytes(DType dtype, int64_t k) {
  const auto columns = static_cast<size_t>(k);
  if (is_quantized(dtype)) return block_count(k) * panel_block_bytes(dtype);
  if (element_bytes(dtype) == 2) return (columns + 1) / 2 * kRows * 4;
  return columns * kRows * 4;
}

size_t matrix_bytes(DType dtype, int64_t n, int64_t k) {
  return (static_cast<size_t>(n) + kRows - 1) / kRows * panel_bytes(dtype, k);
}

void pack_panel(DType dtype, const float* values, int64_t rows, int64_t k, std::byte* panel,
                ScaleSearch search) {
  const auto row_count = static_cast<size_t>(rows);
  const auto columns = static_cast<size_t>(k);
  if (is_quantized(dtype)) return pack_quantized(dtype, values, row_count, columns, panel, search);
  if (row_count < kRows || columns % 2 != 0) std::memset(panel, 0, panel_bytes(dtype, k));
  if (element_bytes(dtype) == 4) {
    for (size_t c = 0; c < columns; ++c)
      for (size_t r = 0; r < row_count; ++r)
        std::memcpy(panel + (c * kRows + r) * 4, values + r * columns + c, 4);
    return;
  }
  for (size_t r = 0; r < row_count; ++r)
    for (size_t c = 0; c < columns; ++c) {
      const float x = values[r * columns + c];
      const uint16_t bits = dtype == DType::kF16 ? f32_to_f16(x) : f32_to_bf16(x);
      std::memcpy(panel + (c / 2 * kRows + r) * 4 + c % 2 * 2, &bits, 2);
    }
}

void pack_panel_from_groups(DType dtype, const std::byte* groups, int64_t rows, int64_t k, std::byte* panel) {
  const size_t blocks = block_count(k);
  for (size_t b = 0; b < blocks; ++b) {
    std::byte* block = panel + b * panel_block_bytes(dtype);
    clear_rows(dtype, block, static_cast<size_t>(rows));
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const std::byte* group = groups + (r * blocks + b) * group_bytes(dtype);
      put_row(dtype, block, r, group, group + scale_bytes(dtype) + minimum_bytes(dtype));
    }
  }
}

void unpack_panel_row(DType dtype, const std::byte* panel, int64_t row, int64_t k, float* values) {
  const auto r = static_cast<size_t>(row);
  const auto half_at = [](const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return bits;
  };
  const DTypeInfo& info = info_of(dtype);
  const PanelBlock at = panel_block(dtype);
  const size_t scales = scale_bytes(dtype), minima = minimum_bytes(dtype);
  for (size_t c = 0; c < static_cast<size_t>(k); ++c) {
    if (element_bytes(dtype) == 4) {
      std::memcpy(values + c, panel + (c * kRows + r) * 4, 4);
      continue;
    }
    if (element_bytes(dtype) == 2) {
      const uint16_t bits = half_at(panel + (c / 2 * kRows + r) * 4 + c % 2 * 2);
      values[c] = dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
      continue;
    }
    const std::byte* block = panel + c / kGroup * at.bytes;
    const uint8_t code = code_at(dtype, block + at.codes, r, c % kGroup);
    const float q = info.codes == CodeKind::kSigned ? static_cast<float>(static_cast<int8_t>(code))
                                                    : static_cast<float>(code - info.zero);
    const float scale = f16_to_f32(half_at(block + at.scales + r * scales));
    values[c] =
        has_minimum(dtype) ? scale * q + f16_to_f32(half_at(block + at.minima + r * minima)) : scale * q;
  }
}

bool panel_is_finite(DType dtype, const std::byte* panel, int64_t k) {
  const size_t bytes = panel_bytes(dtype, k);
  if (dtype == DType::kF32) {
    bool finite = true;
    for (size_t i = 0; i < bytes; i += 4) {
      uint32_t bits;
      std::memcpy(&bits, panel + i, 4);
      finite &= (bits & 0x7F800000u) != 0x7F800000u;
    }
    return finite;
  }
  // Only the scales and minima of a block format can be non-finite; f16 and bf16 are scales all through.
  const size_t stride = is_quantized(dtype) ? panel_block_bytes(dtype) : bytes;
  const size_t scales = is_quantized(dtype) ? panel_block(dtype).codes : bytes;
  const uint16_t exponent = dtype == DType::kBF16 ? 0x7F80 : 0x7C00;
  bool finite = true;
  for (size_t block = 0; block < bytes; block += stride)
    for (size_t i = block; i < block + scales; i += 2) {
      uint16_t bits;
      std::memcpy(&bits, panel + i, 2);
      finite &= (bits & exponent) != exponent;
    }
  return finite;
}

}  // namespace linnet::format
