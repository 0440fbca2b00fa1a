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
constexpr size_t kScaleBytes = 2;

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

// How the codes of a symmetric format are stored.
struct SymmetricCodes {
  int32_t bias, low, high;  // code + bias is stored, within [low, high]
  float value(uint8_t stored) const {
    return bias == 0 ? static_cast<float>(static_cast<int8_t>(stored)) : static_cast<float>(stored - bias);
  }
};
constexpr SymmetricCodes kNibbles = {8, 0, 15}, kBytes = {0, -127, 127};

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

// The signed extreme at -8, as GGUF's Q4_0, or between -7.2 and -8.8.
Group quantize_symmetric4(const float* x) {
  constexpr std::array<float, 7> kCodes = {-8.0f, -7.2f, -7.5f, -7.8f, -8.2f, -8.5f, -8.8f};
  float low = 0, high = 0;
  for (size_t i = 0; i < kGroup; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return quantize_symmetric(x, -low > high ? low : high, kCodes, kNibbles);
}

// The largest magnitude at 127 or at one of the 16 codes below. More scales leave less where there is a grid,
// and a conversion takes as much longer.
Group quantize_symmetric8(const float* x, ScaleSearch search) {
  constexpr std::array<float, 17> kCodes = {127, 126, 125, 124, 123, 122, 121, 120, 119,
                                            118, 117, 116, 115, 114, 113, 112, 111};
  float extreme = 0;
  for (size_t i = 0; i < kGroup; ++i) extreme = std::max(extreme, std::abs(x[i]));
  const size_t tried = search == ScaleSearch::kFitted ? kCodes.size() : 1;
  return quantize_symmetric(x, extreme, std::span(kCodes).first(tried), kBytes);
}

// `count` < 32 only in a row's last group, whose missing inputs must be exact zeros: d*q + m = 0 needs an m
// that is a multiple of d in f16, which -8d always is.
Group quantize_affine4(const float* x, size_t count) {
  if (count < kGroup) {
    Group group = quantize_symmetric4(x);
    group.minimum = f32_to_f16(-8.0f * f16_to_f32(group.scale));
    return half_is_finite(group.minimum) ? group : not_representable();
  }
  float low = x[0], high = x[0];
  for (size_t i = 1; i < kGroup; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  Group group;
  group.scale = f32_to_f16(high / 15.0f - low / 15.0f);
  group.minimum = f32_to_f16(low);
  if (!half_is_finite(group.scale) || !half_is_finite(group.minimum)) return not_representable();
  quantize_codes(x, f16_to_f32(group.minimum), f16_to_f32(group.scale), 0, 0, 15, group.codes);
  return group;
}

Group quantize(DType dtype, const float* x, size_t count, ScaleSearch search) {
  // min/max skip NaN, so it is looked for apart: 0 * x is 0 for every finite x and NaN otherwise.
  float probe = 0;
  for (size_t i = 0; i < kGroup; ++i) probe += x[i] * 0.0f;
  if (probe != 0.0f) return not_representable();
  if (dtype == DType::kQ8) return quantize_symmetric8(x, search);
  return dtype == DType::kQ4 ? quantize_symmetric4(x) : quantize_affine4(x, count);
}

size_t scale_bytes(DType dtype) { return dtype == DType::kQ4A ? 2 * kScaleBytes : kScaleBytes; }
size_t block_count(int64_t k) { return (static_cast<size_t>(k) + kGroup - 1) / kGroup; }

// A block of zero weights (q4 has its zero at code 8).
void clear_block(DType dtype, std::byte* block) {
  const size_t scales = scale_bytes(dtype) * kRows;
  std::memset(block, 0, scales);
  std::memset(block + scales, dtype == DType::kQ4 ? 0x88 : 0, panel_block_bytes(dtype) - scales);
}

// Writes one row of a block from its scales and its codes as GGUF has them (32 bytes for q8, 16 of nibbles).
// Four inputs of a row stay together in both layouts, so this moves 32-bit words.
void put_row(DType dtype, std::byte* block, size_t row, const std::byte* scales, const std::byte* codes) {
  std::memcpy(block + row * kScaleBytes, scales, kScaleBytes);
  if (dtype == DType::kQ4A)
    std::memcpy(block + (kRows + row) * kScaleBytes, scales + kScaleBytes, kScaleBytes);
  std::byte* out = block + scale_bytes(dtype) * kRows;
  const size_t words = dtype == DType::kQ8 ? 8 : 4;
  for (size_t i = 0; i < words; ++i) std::memcpy(out + (i * kRows + row) * 4, codes + i * 4, 4);
}

void pack_quantized(DType dtype, const float* values, size_t rows, size_t k, std::byte* panel,
                    ScaleSearch search) {
  std::array<float, kGroup> tail;
  for (size_t b = 0; b < block_count(static_cast<int64_t>(k)); ++b) {
    std::byte* block = panel + b * panel_block_bytes(dtype);
    if (rows < kRows) clear_block(dtype, block);
    const size_t count = std::min(kGroup, k - b * kGroup);
    for (size_t r = 0; r < rows; ++r) {
      const float* x = values + r * k + b * kGroup;
      if (count < kGroup) {
        tail.fill(0);
        std::copy_n(x, count, tail.begin());
        x = tail.data();
      }
      Group group = quantize(dtype, x, count, search);
      if (dtype != DType::kQ8)
        for (size_t i = 0; i < kGroup / 2; ++i)
          group.codes[i] = static_cast<uint8_t>(group.codes[i] | (group.codes[i + kGroup / 2] << 4));
      const std::array<uint16_t, 2> scales = {group.scale, group.minimum};
      put_row(dtype, block, r, reinterpret_cast<const std::byte*>(scales.data()),
              reinterpret_cast<const std::byte*>(group.codes.data()));
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
    if (rows < kPanelRows) clear_block(dtype, block);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const std::byte* group = groups + (r * blocks + b) * group_bytes(dtype);
      put_row(dtype, block, r, group, group + scale_bytes(dtype));
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
    const std::byte* block = panel + c / kGroup * panel_block_bytes(dtype);
    const std::byte* codes = block + scale_bytes(dtype) * kRows;
    const float scale = f16_to_f32(half_at(block + r * kScaleBytes));
    const size_t i = c % kGroup;
    if (dtype == DType::kQ8) {
      values[c] = scale * static_cast<float>(static_cast<int8_t>(codes[(i / 4 * kRows + r) * 4 + i % 4]));
      continue;
    }
    const size_t at = i % (kGroup / 2);
    const auto pair = static_cast<unsigned>(codes[(at / 4 * kRows + r) * 4 + at % 4]);
    const auto code = static_cast<float>(i < kGroup / 2 ? pair & 15u : pair >> 4);
    values[c] = dtype == DType::kQ4 ? scale * (code - 8.0f)
                                    : scale * code + f16_to_f32(half_at(block + (kRows + r) * kScaleBytes));
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
  // Only the scales of a block format can be non-finite; f16 and bf16 are scales all through.
  const size_t stride = is_quantized(dtype) ? panel_block_bytes(dtype) : bytes;
  const size_t scales = is_quantized(dtype) ? scale_bytes(dtype) * kRows : bytes;
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
