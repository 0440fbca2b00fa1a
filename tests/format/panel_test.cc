#include "format/panel.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace linnet;
using namespace linnet::format;

namespace {

constexpr float kSubnormalError = 128 * 0x1p-25f;  // a code times half a unit of a subnormal f16 scale

uint16_t half_at(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return bits;
}

// Random rows of groups, [rows, blocks]: factors of all bits, f16 that are finite halves (any sign,
// subnormals too), the same in a super-block, row scales the same in a row.
std::vector<BlockGroup> random_groups(DType dtype, size_t rows, size_t blocks, std::mt19937& rng) {
  const DTypeInfo& info = info_of(dtype);
  const auto half = [&] { return static_cast<uint16_t>((rng() & 0x8000u) | (rng() % 0x7C00u)); };
  const auto factor = [&](FactorKind kind) {
    const size_t bits = factor_bits(kind);
    if (kind == FactorKind::kE8M0) return static_cast<uint8_t>(2 + rng() % 250);
    if (kind == FactorKind::kE4M3) return static_cast<uint8_t>(rng() % 0x7F);
    return static_cast<uint8_t>(bits == 0 || bits == 16 ? 0 : rng() % (1u << bits));
  };
  std::vector<BlockGroup> groups(rows * blocks);
  for (size_t i = 0; i < groups.size(); ++i) {
    BlockGroup& g = groups[i];
    const size_t block = i % blocks;
    const bool follows = (super_halves(dtype) > 0 && block % kBlocksOfSuper != 0);
    g.scale = factor_bits(info.scale) == 8 && !is_super(info.scale) ? uint16_t{0} : half();
    g.minimum = has_minimum(dtype) ? half() : uint16_t{0};
    if (follows && is_super(info.scale)) g.scale = groups[i - 1].scale;
    if (follows && is_super(info.minimum)) g.minimum = groups[i - 1].minimum;
    if (has_row_scales(dtype))
      g.row_scale = block > 0 ? groups[i - 1].row_scale : static_cast<float>(1 + rng() % 1000) / 512;
    for (size_t h = 0; h < scales_of_32(dtype); ++h) {
      g.factor[h] = factor(info.scale);
      g.least[h] = factor(info.minimum);
    }
    for (uint8_t& code : g.codes) code = static_cast<uint8_t>(rng() % (1u << info.bits));
  }
  return groups;
}

bool same(const BlockGroup& a, const BlockGroup& b) {
  return a.row_scale == b.row_scale && a.scale == b.scale && a.minimum == b.minimum && a.factor == b.factor &&
         a.least == b.least && a.codes == b.codes;
}

std::vector<float> random_values(size_t count, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(rng);
  return values;
}

}  // namespace

TEST_CASE("sizes follow the layout") {
  CHECK(panel_block_bytes(DType::kQ8) == 544);
  CHECK(panel_block_bytes(DType::kQ4) == 288);
  CHECK(panel_block_bytes(DType::kQ4A) == 320);
  CHECK(panel_bytes(DType::kF32, 3) == 3 * 64);
  CHECK(panel_bytes(DType::kF16, 3) == 2 * 64);
  CHECK(panel_bytes(DType::kBF16, 4) == 2 * 64);
  CHECK(panel_bytes(DType::kQ4, 33) == 2 * 288);
  CHECK(matrix_bytes(DType::kQ4A, 17, 32) == 2 * 320);
  CHECK(matrix_bytes(DType::kQ8, 49152, 576) == size_t{49152 / 16} * 18 * 544);
  // What ggml's block of 256 values takes, 16 times: nothing is added.
  const std::pair<DType, size_t> ggml[] = {
      {DType::kQ2K, 84},     {DType::kQ3K, 110},      {DType::kQ4K, 144},     {DType::kQ5K, 176},
      {DType::kQ6K, 210},    {DType::kIQ4XS, 136},    {DType::kTQ2, 66},      {DType::kQ5, 8 * 22},
      {DType::kQ5A, 8 * 24}, {DType::kIQ4NL, 8 * 18}, {DType::kMXFP4, 8 * 17}};
  for (const auto& [dtype, bytes] : ggml) {
    CAPTURE(dtype_name(dtype));
    CHECK(panel_bytes(dtype, 512) == 2 * 16 * bytes);
  }
  CHECK(panel_bytes(DType::kNVFP4, 512) == 64 + 8 * 16 * 36);
  // A row that ends inside a super-block has no blocks beyond its end.
  CHECK(panel_bytes(DType::kQ4K, 288) == 16 * 144 + 256 + 256);
}

TEST_CASE("a block lies after its head, and the panel ends after its last block") {
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    size_t at = 0, head = 0;
    for (size_t b = 0; b < 20; ++b) {
      if (b % 8 == 0 && (!has_row_scales(dtype) || b == 0)) head = at, at += panel_head_bytes(dtype);
      CHECK(head_offset(dtype, b) == (panel_head_bytes(dtype) ? head : head_offset(dtype, b)));
      CHECK(block_offset(dtype, b) == at);
      at += panel_block_bytes(dtype);
      CHECK(panel_bytes(dtype, static_cast<int64_t>(b + 1) * 32) == at);
    }
  }
}

TEST_CASE("groups are kept without loss") {
  std::mt19937 rng(1);
  for (const DType dtype : kBlockTypes)
    for (const int64_t rows : {1, 7, 16})
      for (const int64_t k : {32, 96, 256, 608}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(rows);
        CAPTURE(k);
        const auto blocks = static_cast<size_t>(k / 32);
        const auto groups = random_groups(dtype, static_cast<size_t>(rows), blocks, rng);
        std::vector<std::byte> panel(panel_bytes(dtype, k), std::byte{0xAB});
        pack_panel_from_groups(dtype, groups.data(), rows, k, panel.data());
        CHECK(panel_is_finite(dtype, panel.data(), k));
        std::vector<float> row(static_cast<size_t>(k)), want(32);
        size_t different = 0, changed = 0, not_zero = 0;
        for (int64_t r = 0; r < 16; ++r) {
          unpack_panel_row(dtype, panel.data(), r, k, row.data());
          for (size_t b = 0; b < blocks; ++b) {
            const float* got = row.data() + b * 32;
            if (r >= rows) {
              for (size_t i = 0; i < 32; ++i) not_zero += got[i] != 0;
              continue;
            }
            const BlockGroup& group = groups[static_cast<size_t>(r) * blocks + b];
            changed += !same(group, panel_group(dtype, panel.data(), r, static_cast<int64_t>(b)));
            values_of(dtype, group, want.data());
            for (size_t i = 0; i < 32; ++i) different += got[i] != want[i];
          }
        }
        CHECK(changed == 0);
        CHECK(different == 0);
        CHECK(not_zero == 0);
      }
}

TEST_CASE("every bit of a block sits where the header says") {
  std::mt19937 rng(2);
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    const DTypeInfo& info = info_of(dtype);
    const auto groups = random_groups(dtype, 16, 1, rng);
    std::vector<std::byte> panel(panel_bytes(dtype, 32));
    pack_panel_from_groups(dtype, groups.data(), 16, 32, panel.data());
    const auto byte_at = [&](size_t at) { return static_cast<unsigned>(panel[at]); };
    const size_t block = factors_offset(dtype, 0), codes = block_offset(dtype, 0) + panel_block(dtype).codes;
    CHECK(codes == block + (super_halves(dtype) ? 8 : 1) * panel_factor_bytes(dtype));
    size_t wrong = 0;
    const auto expect = [&](unsigned got, unsigned want) { wrong += got != want; };
    for (size_t r = 0; r < 16; ++r) {
      const BlockGroup& g = groups[r];
      if (info.scale == FactorKind::kF16) expect(half_at(&panel[block + r * 2]), g.scale);
      if (info.minimum == FactorKind::kF16) expect(half_at(&panel[block + 32 + r * 2]), g.minimum);
      if (is_super(info.scale)) expect(half_at(&panel[r * 2]), g.scale);
      if (is_super(info.minimum)) expect(half_at(&panel[32 + r * 2]), g.minimum);
      for (size_t h = 0; h < scales_of_32(dtype); ++h) {
        if (factor_bits(info.scale) == 8) expect(byte_at(block + h * 16 + r), g.factor[h]);
        if (factor_bits(info.scale) == 4)
          expect(byte_at(block + h * 16 + r), g.factor[h] | static_cast<unsigned>(g.least[h]) << 4);
      }
      if (factors_bits(dtype) == 12 && factor_bits(info.scale) == 6) {
        const unsigned a = g.factor[0], b = has_minimum(dtype) ? g.least[0] : g.factor[1];
        expect(byte_at(block + r), (a & 15) | (b & 15) << 4);
        expect(byte_at(block + 16 + r % 8) >> (r < 8 ? 0 : 4) & 15, a >> 4 | b >> 4 << 2);
      }
      if (factors_bits(dtype) == 6) {
        expect(byte_at(block + r % 8) >> (r < 8 ? 0 : 4) & 15, g.factor[0] & 15u);
        expect(byte_at(block + 8 + r % 4) >> (r / 4 * 2) & 3, g.factor[0] >> 4u);
      }
      for (size_t i = 0; i < 32; ++i) {
        const size_t q = i / 4, in_vector = r * 4 + i % 4;
        const auto vector = [&](size_t n) { return byte_at(codes + n * 64 + in_vector); };
        unsigned code = 0;
        switch (info.bits) {
          case 2:
            code = vector(q / 4) >> 2 * (q % 4) & 3;
            break;
          case 3:
            code = (vector(q / 4) >> 2 * (q % 4) & 3) | (vector(2) >> q & 1) << 2;
            break;
          case 4:
            code = vector(q % 4) >> (q < 4 ? 0 : 4) & 15;
            break;
          case 5:
            code = (vector(q % 4) >> (q < 4 ? 0 : 4) & 15) | (vector(4) >> q & 1) << 4;
            break;
          case 6:
            code = (vector(q % 4) >> (q < 4 ? 0 : 4) & 15) |
                   (vector(4 + q % 4 / 2) >> (q % 2 * 2 + (q < 4 ? 0 : 4)) & 3) << 4;
            break;
          case 8:
            code = vector(q);
            break;
          default:
            FAIL("a width of codes that this test does not know");
        }
        expect(code, g.codes[i]);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("rows beyond the matrix are zeros whose codes mean zero") {
  // Kernels may sum codes before they meet the scale, so the codes count too: q4's zero is 8.
  for (const DType dtype : kBlockTypes) {
    CAPTURE(dtype_name(dtype));
    std::vector<float> values(static_cast<size_t>(3 * 32), 1.0f);
    std::vector<std::byte> packed(panel_bytes(dtype, 32), std::byte{0xAB});
    pack_panel(dtype, values.data(), 3, 32, packed.data());
    for (int64_t r = 3; r < 16; ++r) {
      const BlockGroup group = panel_group(dtype, packed.data(), r, 0);
      CHECK(same(group, zero_group(dtype)));
      for (size_t h = 0; h < scales_of_32(dtype); ++h) {
        CHECK(std::abs(scale_of(dtype, group, h)) < 1e-37f);
        CHECK(minimum_of(dtype, group, h) == 0.0f);
      }
      if (info_of(dtype).codes == CodeKind::kIq4) continue;  // has no code for zero
      for (const uint8_t code : group.codes) CHECK(step_of(dtype, code) == 0.0f);
    }
  }
}

TEST_CASE("plain types keep their values and pad with zeros") {
  std::mt19937 rng(3);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (const int64_t rows : {1, 5, 16})
      for (const int64_t k : {1, 2, 7, 64}) {
        CAPTURE(dtype_name(dtype));
        const auto values = random_values(static_cast<size_t>(rows * k), rng);
        std::vector<std::byte> panel(panel_bytes(dtype, k), std::byte{0xAB});
        pack_panel(dtype, values.data(), rows, k, panel.data());
        CHECK(panel_is_finite(dtype, panel.data(), k));
        // An odd K leaves one input of padding in each pair: read it back as input K.
        const int64_t stored = element_bytes(dtype) == 2 ? (k + 1) / 2 * 2 : k;
        std::vector<float> row(static_cast<size_t>(stored));
        for (int64_t r = 0; r < 16; ++r) {
          unpack_panel_row(dtype, panel.data(), r, stored, row.data());
          for (int64_t c = 0; c < stored; ++c) {
            const float x = r < rows && c < k ? values[static_cast<size_t>(r * k + c)] : 0.0f;
            const float expected = dtype == DType::kF32   ? x
                                   : dtype == DType::kF16 ? f16_to_f32(f32_to_f16(x))
                                                          : bf16_to_f32(f32_to_bf16(x));
            REQUIRE(row[static_cast<size_t>(c)] == expected);
          }
        }
      }
}

TEST_CASE("quantisation takes the nearest code and pads with zero weights") {
  std::mt19937 rng(4);
  for (const DType dtype : kBlockTypes)
    for (const int64_t rows : {3, 16})
      for (const int64_t k : {5, 32, 33, 95, 600}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(k);
        const auto values = random_values(static_cast<size_t>(rows * k), rng);
        std::vector<std::byte> panel(panel_bytes(dtype, k), std::byte{0xAB});
        pack_panel(dtype, values.data(), rows, k, panel.data());
        size_t far = 0, not_zero = 0;
        for (int64_t r = 0; r < 16; ++r)
          for (int64_t b = 0; b < (k + 31) / 32; ++b) {
            const BlockGroup group = panel_group(dtype, panel.data(), r, b);
            std::array<float, 32> got;
            values_of(dtype, group, got.data());
            for (int64_t i = 0; i < 32; ++i) {
              const auto at = static_cast<size_t>(i);
              if (r >= rows || b * 32 + i >= k) {
                // Missing inputs meet zeros; where a format has a number for zero it is that.
                const bool can = r >= rows || info_of(dtype).minimum != FactorKind::kSuper6;
                not_zero += can && info_of(dtype).minimum != FactorKind::kSuper4 &&
                            info_of(dtype).codes != CodeKind::kIq4 && got[at] != 0.0f;
                continue;
              }
              REQUIRE(std::isfinite(got[at]));
              const float x = values[static_cast<size_t>(r * k + b * 32 + i)];
              const size_t half = at / static_cast<size_t>(info_of(dtype).group);
              const float scale = scale_of(dtype, group, half), least = minimum_of(dtype, group, half);
              float nearest = INFINITY;
              for (unsigned code = 0; code < 1u << code_bits(dtype); ++code) {
                if (code == 0x80) continue;  // -128, which q8 does not use
                nearest = std::min(
                    nearest, std::abs(x - (scale * step_of(dtype, static_cast<uint8_t>(code)) + least)));
              }
              far += std::abs(x - got[at]) > nearest * 1.0001f + 1e-6f;
            }
          }
        CHECK(far == 0);
        CHECK(not_zero == 0);
      }
}

TEST_CASE("more bits leave less error") {
  // Normal numbers: the share of their square that rounding leaves, at most (measured plus a tenth).
  std::mt19937 rng(5);
  const auto values = random_values(16 * 1024, rng);
  double square = 0;
  for (const float v : values) square += static_cast<double>(v) * v;
  const std::pair<DType, double> most[] = {
      {DType::kQ8, 4.2e-5},   {DType::kQ6K, 4.8e-4},   {DType::kQ5K, 1.3e-3},   {DType::kQ5, 1.9e-3},
      {DType::kQ5A, 1.35e-3}, {DType::kQ4K, 5.4e-3},   {DType::kQ4A, 5.6e-3},   {DType::kQ4, 7.8e-3},
      {DType::kIQ4NL, 6e-3},  {DType::kIQ4XS, 6.2e-3}, {DType::kMXFP4, 1.4e-2}, {DType::kNVFP4, 9.5e-3},
      {DType::kQ3K, 2.6e-2},  {DType::kQ2K, 8.5e-2},   {DType::kTQ2, 0.21}};
  CHECK(std::size(most) == kBlockTypes.count);
  for (const auto& [dtype, bound] : most) {
    std::vector<std::byte> panel(panel_bytes(dtype, 1024));
    pack_panel(dtype, values.data(), 16, 1024, panel.data());
    std::vector<float> row(1024);
    double error = 0;
    for (int64_t r = 0; r < 16; ++r) {
      unpack_panel_row(dtype, panel.data(), r, 1024, row.data());
      for (size_t c = 0; c < row.size(); ++c)
        error += std::pow(static_cast<double>(row[c] - values[static_cast<size_t>(r) * 1024 + c]), 2);
    }
    MESSAGE(dtype_name(dtype), ": ", error / square);
    CHECK(error / square < bound);
  }
}

TEST_CASE("the extreme value of a group keeps its place on the grid") {
  std::vector<float> x(32, 0.0f);
  x[3] = -4.0f, x[20] = 3.5f, x[21] = 0.5f;
  float y[32];
  std::vector<std::byte> panel(panel_bytes(DType::kQ8, 32));
  pack_panel(DType::kQ4, x.data(), 1, 32, panel.data());
  CHECK(f16_to_f32(half_at(panel.data())) == 0.5f);
  unpack_panel_row(DType::kQ4, panel.data(), 0, 32, y);
  CHECK(y[3] == -4.0f);
  CHECK(y[20] == 3.5f);
  x[3] = 4.0f;  // the signed extreme goes to -8 with a negative scale
  pack_panel(DType::kQ4, x.data(), 1, 32, panel.data());
  CHECK(f16_to_f32(half_at(panel.data())) == -0.5f);
  unpack_panel_row(DType::kQ4, panel.data(), 0, 32, y);
  CHECK(y[3] == 4.0f);
  for (size_t i = 0; i < 32; ++i) x[i] = 1.0f + 0.25f * static_cast<float>(i % 16);  // exactly 16 levels
  pack_panel(DType::kQ4A, x.data(), 1, 32, panel.data());
  unpack_panel_row(DType::kQ4A, panel.data(), 0, 32, y);
  for (size_t i = 0; i < 32; ++i) CHECK(y[i] == x[i]);
  for (size_t i = 0; i < 32; ++i) x[i] = static_cast<float>(i) * 8 - 127;  // -127 .. 121 with d = 1
  pack_panel(DType::kQ8, x.data(), 1, 32, panel.data());
  unpack_panel_row(DType::kQ8, panel.data(), 0, 32, y);
  for (size_t i = 0; i < 32; ++i) CHECK(y[i] == x[i]);
}

TEST_CASE("a q8 scale that is searched for leaves half the error on a coarser grid") {
  // Weights on a grid of 16 values with a minimum, as Q4_1 leaves them.
  std::mt19937 rng(9);
  std::uniform_int_distribution<int> code(0, 15);
  std::uniform_real_distribution<float> start(-9.0f, -6.0f);
  double error[2] = {};
  for (int group = 0; group < 500; ++group) {
    std::vector<float> x(32), y(32);
    const float low = start(rng);
    for (float& v : x) v = 0.01f * (static_cast<float>(code(rng)) + low);
    std::vector<std::byte> panel(panel_bytes(DType::kQ8, 32));
    for (const ScaleSearch search : {ScaleSearch::kNone, ScaleSearch::kFitted}) {
      pack_panel(DType::kQ8, x.data(), 1, 32, panel.data(), search);
      unpack_panel_row(DType::kQ8, panel.data(), 0, 32, y.data());
      for (size_t i = 0; i < 32; ++i)
        error[static_cast<size_t>(search)] += std::pow(static_cast<double>(y[i] - x[i]), 2);
    }
  }
  CHECK(error[1] < 0.6 * error[0]);
}

TEST_CASE("values a type cannot hold stay visible as NaN or infinity") {
  for (const DType dtype : kWeightTypes)
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), 3e38f}) {
      // Those with scales of eight exponents bits hold the largest floats.
      const bool wide = has_row_scales(dtype) || info_of(dtype).scale == FactorKind::kE8M0;
      if (bad == 3e38f && (dtype == DType::kF32 || dtype == DType::kBF16 || wide)) continue;
      CAPTURE(dtype_name(dtype));
      CAPTURE(bad);
      for (const int64_t k : {40, 64, 288}) {
        // In another super-block than the first, where there is one.
        const auto at = static_cast<size_t>(k - 1);
        std::vector<float> values(static_cast<size_t>(2 * k), 1.0f), row(static_cast<size_t>(k));
        values[static_cast<size_t>(k) + at] = bad;
        std::vector<std::byte> panel(panel_bytes(dtype, k));
        pack_panel(dtype, values.data(), 2, k, panel.data());
        CHECK_FALSE(panel_is_finite(dtype, panel.data(), k));
        unpack_panel_row(dtype, panel.data(), 1, k, row.data());
        CHECK_FALSE(std::isfinite(row[at]));
        if (k == 288 || super_halves(dtype) == 0) CHECK(row[0] == doctest::Approx(1).epsilon(0.01));
        unpack_panel_row(dtype, panel.data(), 0, k, row.data());
        for (const float x : row) REQUIRE(x == doctest::Approx(1).epsilon(0.01));
      }
    }
}

TEST_CASE("tiny values do not overflow their codes") {
  for (const DType dtype : kBlockTypes)
    for (const float tiny : {1e-45f, 1e-38f, 3e-8f, 1e-7f, 1e-5f}) {
      CAPTURE(dtype_name(dtype));
      CAPTURE(tiny);
      std::vector<float> values(32, 0.0f), row(32);
      values[0] = tiny, values[1] = -tiny;
      std::vector<std::byte> panel(panel_bytes(dtype, 32));
      pack_panel(dtype, values.data(), 1, 32, panel.data());
      unpack_panel_row(dtype, panel.data(), 0, 32, row.data());
      // A scale below the normal numbers of f16 is off by up to half a unit, a code's steps times.
      const float bound = code_bits(dtype) == 8 ? kSubnormalError : 64 * 0x1p-25f * 127 + tiny;
      for (size_t i = 0; i < 32; ++i) REQUIRE(std::abs(row[i] - values[i]) <= bound);
    }
}
