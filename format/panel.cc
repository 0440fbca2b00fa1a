#include "format/panel.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

// The bytes of a file are the bytes in memory; container.h refuses files of the other byte order.
static_assert(std::endian::native == std::endian::little,
              "Linnet files are little-endian and mapped as they are");

namespace linnet::format {
namespace {

constexpr auto kRows = static_cast<size_t>(kPanelRows);
constexpr auto kGroup = static_cast<size_t>(kGroupSize);
constexpr size_t kVector = kRows * 4;  // bytes of a vector of codes

// What the functions here know. Another kind of format is a row in dtypes.def and its place here.
constexpr bool is_known(DType dtype) {
  const DTypeInfo& info = info_of(dtype);
  const size_t bits = factors_bits(dtype);
  const bool codes = info.bits >= 2 && info.bits <= 8 && info.bits != 7;
  const bool own_half = info.scale == FactorKind::kF16 && info.group == kGroupSize &&
                        (info.minimum == FactorKind::kF16 || info.minimum == FactorKind::kNone);
  const bool bytes = factor_bits(info.scale) == 8 && !has_minimum(dtype);
  const bool nibbles = factor_bits(info.scale) == 4 && factor_bits(info.minimum) == 4;
  const bool sixes = factor_bits(info.scale) == 6 && (bits == 12 || bits == 6);
  return codes && (own_half || bytes || nibbles || sixes || bits == 0);
}
static_assert(
    [] {
      for (const DType dtype : kBlockTypes)
        if (!is_known(dtype)) return false;
      return true;
    }(),
    "dtypes.def has a kind of format that panel.cc cannot pack and unpack");

using Byte = uint8_t;
Byte get(const std::byte* p) { return static_cast<Byte>(*p); }
// Into bytes that began as zeros.
void put(std::byte* p, unsigned bits) { *p |= static_cast<std::byte>(bits); }

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// ---- codes ------------------------------------------------------------------------------------------------

// The two fields of a code: `low` bits that lie in vectors of their own, and the rest above them.
struct Field {
  size_t vector;  // its number within the codes
  size_t shift;
};
constexpr size_t low_bits(size_t bits) { return bits == 3 ? 2 : bits > 4 && bits < 8 ? 4 : bits; }
constexpr Field low_field(size_t bits, size_t i) {
  switch (low_bits(bits)) {
    case 2:
      return {i / 4, 2 * (i % 4)};
    case 4:
      return {i % 4, i / 4 * 4};
    default:
      return {i, 0};
  }
}
constexpr Field high_field(size_t bits, size_t i) {
  const size_t after = low_bits(bits);  // vectors of the low fields: as many as bits
  if (bits - after == 2) return {after + i % 4 / 2, i / 4 * 4 + i % 2 * 2};
  return {after, i};
}

void put_codes(size_t bits, std::byte* codes, size_t row, const std::array<uint8_t, kGroup>& q) {
  const size_t low = low_bits(bits);
  const unsigned mask = (1u << low) - 1;
  for (size_t i = 0; i < 8; ++i) {
    const Field at = low_field(bits, i), above = low < bits ? high_field(bits, i) : Field{};
    for (size_t j = 0; j < 4; ++j) {
      const unsigned code = q[4 * i + j];
      put(codes + at.vector * kVector + row * 4 + j, (code & mask) << at.shift);
      if (low < bits) put(codes + above.vector * kVector + row * 4 + j, (code >> low) << above.shift);
    }
  }
}

void get_codes(size_t bits, const std::byte* codes, size_t row, std::array<uint8_t, kGroup>& q) {
  const size_t low = low_bits(bits);
  const unsigned mask = (1u << low) - 1, high_mask = (1u << (bits - low)) - 1;
  for (size_t i = 0; i < 8; ++i) {
    const Field at = low_field(bits, i), above = low < bits ? high_field(bits, i) : Field{};
    for (size_t j = 0; j < 4; ++j) {
      unsigned code = get(codes + at.vector * kVector + row * 4 + j) >> at.shift & mask;
      if (low < bits)
        code |= (get(codes + above.vector * kVector + row * 4 + j) >> above.shift & high_mask) << low;
      q[4 * i + j] = static_cast<Byte>(code);
    }
  }
}

// ---- scales and minima ------------------------------------------------------------------------------------

// Two numbers of six bits: the scale and the minimum, or the scales of both halves.
struct Pair {
  Byte a, b;
};
Pair pair_of(DType dtype, const BlockGroup& group) {
  return {group.factor[0], has_minimum(dtype) ? group.least[0] : group.factor[1]};
}

void put_factors(DType dtype, std::byte* panel, size_t row, size_t at, const BlockGroup& group) {
  const DTypeInfo& info = info_of(dtype);
  std::byte *head = panel + head_offset(dtype, at), *block = panel + factors_offset(dtype, at);
  if (has_row_scales(dtype)) std::memcpy(head + row * 4, &group.row_scale, 4);
  if (is_super(info.scale)) std::memcpy(head + row * 2, &group.scale, 2);
  if (is_super(info.minimum)) std::memcpy(head + kRows * 2 + row * 2, &group.minimum, 2);
  if (info.scale == FactorKind::kF16) {
    std::memcpy(block + row * 2, &group.scale, 2);
    if (has_minimum(dtype)) std::memcpy(block + panel_block(dtype).minima + row * 2, &group.minimum, 2);
    return;
  }
  const size_t bits = factors_bits(dtype);
  if (factor_bits(info.scale) == 6 && bits == 12) {
    const Pair p = pair_of(dtype, group);
    put(block + row, (p.a & 15u) | (p.b & 15u) << 4);
    put(block + kRows + row % 8, (p.a >> 4u | (p.b >> 4u) << 2) << (row / 8 * 4));
  } else if (factor_bits(info.scale) == 6) {
    put(block + row % 8, (group.factor[0] & 15u) << (row / 8 * 4));
    put(block + kRows / 2 + row % 4, (group.factor[0] >> 4u) << (row / 4 * 2));
  } else if (bits > 0) {
    const bool both = has_minimum(dtype);  // nibbles
    for (size_t half = 0; half < scales_of_32(dtype); ++half)
      put(block + half * kRows + row,
          both ? group.factor[half] | static_cast<unsigned>(group.least[half]) << 4 : group.factor[half]);
  }
}

void get_factors(DType dtype, const std::byte* panel, size_t row, size_t at, BlockGroup& group) {
  const DTypeInfo& info = info_of(dtype);
  const std::byte *head = panel + head_offset(dtype, at), *block = panel + factors_offset(dtype, at);
  if (has_row_scales(dtype)) group.row_scale = load<float>(head + row * 4);
  if (is_super(info.scale)) group.scale = load<uint16_t>(head + row * 2);
  if (is_super(info.minimum)) group.minimum = load<uint16_t>(head + kRows * 2 + row * 2);
  if (info.scale == FactorKind::kF16) {
    group.scale = load<uint16_t>(block + row * 2);
    if (has_minimum(dtype)) group.minimum = load<uint16_t>(block + panel_block(dtype).minima + row * 2);
    return;
  }
  const size_t bits = factors_bits(dtype);
  if (factor_bits(info.scale) == 6 && bits == 12) {
    const unsigned low = get(block + row), high = get(block + kRows + row % 8) >> (row / 8 * 4);
    group.factor[0] = static_cast<Byte>((low & 15u) | (high & 3u) << 4);
    (has_minimum(dtype) ? group.least[0] : group.factor[1]) =
        static_cast<Byte>(low >> 4 | (high >> 2 & 3u) << 4);
  } else if (factor_bits(info.scale) == 6) {
    const unsigned low = get(block + row % 8) >> (row / 8 * 4),
                   high = get(block + kRows / 2 + row % 4) >> (row / 4 * 2);
    group.factor[0] = static_cast<Byte>((low & 15u) | (high & 3u) << 4);
  } else if (bits > 0) {
    for (size_t half = 0; half < scales_of_32(dtype); ++half) {
      const Byte byte = get(block + half * kRows + row);
      group.factor[half] = has_minimum(dtype) ? byte & 15u : byte;
      group.least[half] = has_minimum(dtype) ? byte >> 4 : 0;
    }
  }
}

size_t block_count(int64_t k) { return (static_cast<size_t>(k) + kGroup - 1) / kGroup; }

// Group `block` of row `row`, into a panel of zeros.
void put_group(DType dtype, std::byte* panel, size_t row, size_t block, const BlockGroup& group) {
  put_factors(dtype, panel, row, block, group);
  put_codes(code_bits(dtype), panel + block_offset(dtype, block) + panel_block(dtype).codes, row,
            group.codes);
}

// Zero weights in the rows of a panel from `row` on.
void clear_rows(DType dtype, std::byte* panel, size_t row, size_t blocks) {
  const BlockGroup zero = zero_group(dtype);
  for (; row < kRows; ++row)
    for (size_t b = 0; b < blocks; ++b) put_group(dtype, panel, row, b, zero);
}

}  // namespace

size_t panel_bytes(DType dtype, int64_t k) {
  const auto columns = static_cast<size_t>(k);
  if (is_quantized(dtype)) return blocks_bytes(dtype, block_count(k));
  if (element_bytes(dtype) == 2) return (columns + 1) / 2 * kRows * 4;
  return columns * kRows * 4;
}

size_t matrix_bytes(DType dtype, int64_t n, int64_t k) {
  return (static_cast<size_t>(n) + kRows - 1) / kRows * panel_bytes(dtype, k);
}

void pack_panel_from_groups(DType dtype, const BlockGroup* groups, int64_t rows, int64_t k,
                            std::byte* panel) {
  const size_t blocks = block_count(k);
  std::memset(panel, 0, panel_bytes(dtype, k));
  for (size_t b = 0; b < blocks; ++b)
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
      put_group(dtype, panel, r, b, groups[r * blocks + b]);
  clear_rows(dtype, panel, static_cast<size_t>(rows), blocks);
}

void pack_panel(DType dtype, const float* values, int64_t rows, int64_t k, std::byte* panel,
                ScaleSearch search) {
  const auto row_count = static_cast<size_t>(rows);
  const auto columns = static_cast<size_t>(k);
  if (is_quantized(dtype)) {
    const size_t blocks = block_count(k);
    std::vector<BlockGroup> groups(row_count * blocks);
    for (size_t r = 0; r < row_count; ++r)
      quantize_row(dtype, {values + r * columns, columns}, search, groups.data() + r * blocks);
    return pack_panel_from_groups(dtype, groups.data(), rows, k, panel);
  }
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

BlockGroup panel_group(DType dtype, const std::byte* panel, int64_t row, int64_t block) {
  const auto r = static_cast<size_t>(row), b = static_cast<size_t>(block);
  BlockGroup group;
  get_factors(dtype, panel, r, b, group);
  get_codes(code_bits(dtype), panel + block_offset(dtype, b) + panel_block(dtype).codes, r, group.codes);
  return group;
}

void unpack_panel_row(DType dtype, const std::byte* panel, int64_t row, int64_t k, float* values) {
  const auto r = static_cast<size_t>(row);
  const auto columns = static_cast<size_t>(k);
  if (is_quantized(dtype)) {
    std::array<float, kGroup> group;
    for (size_t c = 0; c < columns; c += kGroup) {
      values_of(dtype, panel_group(dtype, panel, row, static_cast<int64_t>(c / kGroup)), group.data());
      std::copy_n(group.begin(), std::min(kGroup, columns - c), values + c);
    }
    return;
  }
  for (size_t c = 0; c < columns; ++c) {
    if (element_bytes(dtype) == 4) {
      values[c] = load<float>(panel + (c * kRows + r) * 4);
      continue;
    }
    const auto bits = load<uint16_t>(panel + (c / 2 * kRows + r) * 4 + c % 2 * 2);
    values[c] = dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
}

bool panel_is_finite(DType dtype, const std::byte* panel, int64_t k) {
  bool finite = true;
  if (is_quantized(dtype)) {
    for (size_t b = 0; b < block_count(k); ++b)
      for (size_t r = 0; r < kRows; ++r) {
        BlockGroup group;
        get_factors(dtype, panel, r, b, group);
        finite &= is_finite(dtype, group);
      }
    return finite;
  }
  const size_t bytes = panel_bytes(dtype, k);
  if (dtype == DType::kF32) {
    for (size_t i = 0; i < bytes; i += 4) finite &= (load<uint32_t>(panel + i) & 0x7F800000u) != 0x7F800000u;
    return finite;
  }
  const uint16_t exponent = dtype == DType::kBF16 ? 0x7F80 : 0x7C00;
  for (size_t i = 0; i < bytes; i += 2) finite &= (load<uint16_t>(panel + i) & exponent) != exponent;
  return finite;
}

}  // namespace linnet::format
