#include "format/panel.h"

#include <doctest/doctest.h>

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

// GGUF's definition of dequantisation, written out from its specification and apart from panel.cc.
float gguf_value(DType dtype, const std::byte* group, size_t i) {
  const float d = f16_to_f32(half_at(group)), m = has_minimum(dtype) ? f16_to_f32(half_at(group + 2)) : 0.0f;
  const std::byte* codes = group + (has_minimum(dtype) ? 4 : 2);
  if (code_bits(dtype) == 8) return d * static_cast<float>(static_cast<int8_t>(codes[i])) + m;
  REQUIRE(code_bits(dtype) == 4);
  const int pair = static_cast<int>(codes[i % 16]);
  const auto q = static_cast<float>(i < 16 ? pair % 16 : pair / 16);
  return d * (q - static_cast<float>(info_of(dtype).zero)) + m;
}

// Random groups whose scales are finite halves (any sign, subnormals too).
std::vector<std::byte> random_groups(DType dtype, size_t count, std::mt19937& rng) {
  std::vector<std::byte> bytes(count * group_bytes(dtype));
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng() & 0xFF);
  for (size_t g = 0; g < count; ++g)
    for (size_t s = 0; s < (has_minimum(dtype) ? 2u : 1u); ++s) {
      const auto half = static_cast<uint16_t>((rng() & 0x8000u) | (rng() % 0x7C00u));
      std::memcpy(&bytes[g * group_bytes(dtype) + s * 2], &half, 2);
    }
  return bytes;
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
}

TEST_CASE("groups of GGUF are kept without loss") {
  std::mt19937 rng(1);
  for (const DType dtype : kBlockTypes)
    for (const int64_t rows : {1, 7, 16})
      for (const int64_t k : {32, 96}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(rows);
        CAPTURE(k);
        const auto blocks = static_cast<size_t>(k / 32);
        const auto groups = random_groups(dtype, static_cast<size_t>(rows) * blocks, rng);
        std::vector<std::byte> panel(panel_bytes(dtype, k), std::byte{0xAB});
        pack_panel_from_groups(dtype, groups.data(), rows, k, panel.data());
        std::vector<float> row(static_cast<size_t>(k));
        size_t different = 0;
        for (int64_t r = 0; r < 16; ++r) {
          unpack_panel_row(dtype, panel.data(), r, k, row.data());
          for (size_t c = 0; c < row.size(); ++c) {
            const std::byte* group =
                &groups[0] + (static_cast<size_t>(r) * blocks + c / 32) * group_bytes(dtype);
            const float expected = r < rows ? gguf_value(dtype, group, c % 32) : 0.0f;
            different += row[c] != expected;
          }
        }
        CHECK(different == 0);
      }
}

TEST_CASE("every byte of a block sits where the header says") {
  std::mt19937 rng(2);
  for (const DType dtype : kBlockTypes) {
    const auto groups = random_groups(dtype, 16, rng);
    std::vector<std::byte> panel(panel_bytes(dtype, 32));
    pack_panel_from_groups(dtype, groups.data(), 16, 32, panel.data());
    const size_t scales = has_minimum(dtype) ? 4 : 2;
    for (size_t r = 0; r < 16; ++r) {
      const std::byte* group = &groups[r * group_bytes(dtype)];
      CHECK(half_at(&panel[r * 2]) == half_at(group));
      if (has_minimum(dtype)) CHECK(half_at(&panel[32 + r * 2]) == half_at(group + 2));
      const size_t codes = code_bits(dtype) * 4;  // a nibble byte keeps its two inputs, i and 16 + i
      for (size_t i = 0; i < codes; ++i)
        REQUIRE(panel[scales * 16 + i / 4 * 64 + r * 4 + i % 4] == group[scales + i]);
    }
  }
}

TEST_CASE("rows beyond the matrix have zero scales and zero codes") {
  // Kernels may sum codes before they meet the scale, so the codes count too: q4's zero is 8, twice in a
  // byte.
  for (const DType dtype : kBlockTypes) {
    std::vector<float> values(static_cast<size_t>(3 * 32), 1.0f);
    std::vector<std::byte> packed(panel_bytes(dtype, 32), std::byte{0xAB}), copied = packed;
    const std::vector<std::byte> groups(3 * group_bytes(dtype), std::byte{0x11});
    pack_panel(dtype, values.data(), 3, 32, packed.data());
    pack_panel_from_groups(dtype, groups.data(), 3, 32, copied.data());
    const auto zero = static_cast<std::byte>(info_of(dtype).zero * (code_bits(dtype) == 4 ? 17 : 1));
    const size_t scales = has_minimum(dtype) ? 64 : 32;
    for (const auto& panel : {packed, copied})
      for (size_t at = 0; at < panel.size(); ++at) {
        const size_t row = at < scales ? at / 2 % 16 : (at - scales) / 4 % 16;
        if (row >= 3) REQUIRE(panel[at] == (at < scales ? std::byte{0} : zero));
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

TEST_CASE("quantisation rounds to nearest and pads with zero weights") {
  std::mt19937 rng(4);
  for (const DType dtype : kBlockTypes)
    for (const int64_t rows : {3, 16})
      for (const int64_t k : {5, 32, 33, 95}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(k);
        const auto values = random_values(static_cast<size_t>(rows * k), rng);
        std::vector<std::byte> panel(panel_bytes(dtype, k), std::byte{0xAB});
        pack_panel(dtype, values.data(), rows, k, panel.data());
        const int64_t stored = (k + 31) / 32 * 32;
        std::vector<float> row(static_cast<size_t>(stored));
        for (int64_t r = 0; r < 16; ++r) {
          unpack_panel_row(dtype, panel.data(), r, stored, row.data());
          for (int64_t c = 0; c < stored; ++c) {
            if (r >= rows || c >= k) {
              REQUIRE(row[static_cast<size_t>(c)] == 0.0f);
              continue;
            }
            const float* group = &values[static_cast<size_t>(r * k + c / 32 * 32)];
            const int64_t count = std::min<int64_t>(32, k - c / 32 * 32);
            float low = group[0], high = group[0], extreme = 0;
            for (int64_t i = 0; i < count; ++i) {
              low = std::min(low, group[i]), high = std::max(high, group[i]);
              extreme = std::max(extreme, std::abs(group[i]));
            }
            // Half a step, or a whole one where the symmetric range ends (q4: +8 is missing), plus the f16
            // rounding of the scale (2^-11, or 2^-25 times the code where it is subnormal) and minimum.
            const bool affine = has_minimum(dtype) && count == 32,
                       even = info_of(dtype).codes == CodeKind::kSigned;
            const auto codes = static_cast<float>(1 << code_bits(dtype));
            const float step = even     ? extreme / (codes / 2 - 1)
                               : affine ? (high - low) / (codes - 1)
                                        : extreme / (codes / 2);
            const float bound = (affine || even ? 0.5f : 1.0f) * step + extreme * 0x1p-10f + kSubnormalError;
            REQUIRE(std::abs(row[static_cast<size_t>(c)] - values[static_cast<size_t>(r * k + c)]) <= bound);
          }
        }
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
      if (bad == 3e38f && (dtype == DType::kF32 || dtype == DType::kBF16)) continue;
      CAPTURE(dtype_name(dtype));
      CAPTURE(bad);
      for (const int64_t k : {40, 64}) {
        std::vector<float> values(static_cast<size_t>(2 * k), 1.0f), row(static_cast<size_t>(k));
        values[static_cast<size_t>(k) + 39] = bad;
        std::vector<std::byte> panel(panel_bytes(dtype, k));
        pack_panel(dtype, values.data(), 2, k, panel.data());
        CHECK_FALSE(panel_is_finite(dtype, panel.data(), k));
        unpack_panel_row(dtype, panel.data(), 1, k, row.data());
        CHECK_FALSE(std::isfinite(row[39]));
        CHECK(row[0] == doctest::Approx(1).epsilon(0.001));
        unpack_panel_row(dtype, panel.data(), 0, k, row.data());
        for (const float x : row) REQUIRE(x == doctest::Approx(1).epsilon(0.001));
      }
    }
}

TEST_CASE("tiny values do not overflow their codes") {
  for (const DType dtype : kBlockTypes)
    for (const float tiny : {1e-45f, 1e-38f, 3e-8f, 1e-7f, 1e-5f}) {
      std::vector<float> values(32, 0.0f), row(32);
      values[0] = tiny, values[1] = -tiny;
      std::vector<std::byte> panel(panel_bytes(dtype, 32));
      pack_panel(dtype, values.data(), 1, 32, panel.data());
      unpack_panel_row(dtype, panel.data(), 0, 32, row.data());
      const float bound = code_bits(dtype) == 8 ? kSubnormalError : 17 * 0x1p-25f + tiny / 8;
      for (size_t i = 0; i < 32; ++i) REQUIRE(std::abs(row[i] - values[i]) <= bound);
    }
}
