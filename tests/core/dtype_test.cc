#include "runtime/core/dtype.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

using namespace linnet;

namespace {

// A float format of 1 sign, `exponent` and `mantissa` bits, worked out in double arithmetic from the
// definition of IEEE 754, apart from the bit tricks under test.
struct Format {
  int exponent_bits;
  int mantissa_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  double value(uint32_t bits) const {
    const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
    const auto exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
    const double sign = (bits >> (mantissa_bits + exponent_bits)) & 1u ? -1.0 : 1.0;
    const double fraction = std::ldexp(static_cast<double>(mantissa), -mantissa_bits);
    if (exponent == (1 << exponent_bits) - 1)
      return mantissa ? std::numeric_limits<double>::quiet_NaN()
                      : sign * std::numeric_limits<double>::infinity();
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias());
    return sign * std::ldexp(1 + fraction, exponent - bias());
  }

  // Round to nearest, ties to even; x is a float, so every step in double is exact.
  uint16_t round(double x) const {
    const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
    const double magnitude = std::abs(x);
    const int emin = 1 - bias();
    int exponent = 0;
    std::frexp(magnitude, &exponent);  // magnitude = f * 2^exponent, f in [0.5, 1)
    const int unit = std::max(exponent - 1, emin) - mantissa_bits;
    const double units = std::ldexp(magnitude, -unit);
    double whole = std::floor(units);
    const double rest = units - whole;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0)) whole += 1;
    const double rounded = std::ldexp(whole, unit);
    const double largest = std::ldexp(2 - std::ldexp(1.0, -mantissa_bits), bias());
    if (rounded > largest)
      return static_cast<uint16_t>(sign | (((1u << exponent_bits) - 1) << mantissa_bits));
    int e = 0;
    std::frexp(rounded, &e);
    if (rounded == 0 || e - 1 < emin)
      return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::ldexp(rounded, mantissa_bits - emin)));
    const auto fraction =
        static_cast<uint32_t>(std::ldexp(rounded, mantissa_bits - (e - 1))) - (1u << mantissa_bits);
    return static_cast<uint16_t>(sign | (static_cast<uint32_t>(e - 1 + bias()) << mantissa_bits) | fraction);
  }
};

constexpr Format kHalf = {5, 10};
constexpr Format kBrain = {8, 7};

bool same(float a, double b) {
  if (std::isnan(b)) return std::isnan(a);
  return static_cast<double>(a) == b && std::signbit(a) == std::signbit(b);
}

template <typename Check>
void for_many_floats(Check check) {
  std::mt19937 rng(5);
  for (int i = 0; i < 2'000'000; ++i) check(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  // Around every boundary of the 16-bit formats: each value, the midpoint to the next, and their neighbours.
  for (const Format& format : {kHalf, kBrain})
    for (uint32_t bits = 0; bits < 0x7FFF; ++bits) {
      const double a = format.value(bits), b = format.value(bits + 1);
      if (!std::isfinite(a) || !std::isfinite(b)) continue;
      const auto middle = static_cast<float>((a + b) / 2);
      for (const float x : {static_cast<float>(a), middle, std::nextafter(middle, 0.0f),
                            std::nextafter(middle, std::numeric_limits<float>::infinity())}) {
        check(x);
        check(-x);
      }
    }
  for (const float x : {65504.0f, 65519.996f, 65520.0f, 65536.0f, 3.4028235e38f, 3.3961775e38f, 1e-45f, 0.0f})
    check(x), check(-x);
}

}  // namespace

TEST_CASE("all 65536 halves and bfloats have their value, and come back") {
  size_t wrong = 0, not_back = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    wrong += !same(f16_to_f32(half), kHalf.value(bits));
    wrong += !same(bf16_to_f32(half), kBrain.value(bits));
    if (!std::isnan(kHalf.value(bits))) not_back += f32_to_f16(f16_to_f32(half)) != half;
    if (!std::isnan(kBrain.value(bits))) not_back += f32_to_bf16(bf16_to_f32(half)) != half;
  }
  CHECK(wrong == 0);
  CHECK(not_back == 0);
}

TEST_CASE("rounding to half and bfloat is to nearest, ties to even") {
  size_t wrong = 0;
  for_many_floats([&](float x) {
    if (std::isnan(x)) {
      wrong += !std::isnan(f16_to_f32(f32_to_f16(x))) || !std::isnan(bf16_to_f32(f32_to_bf16(x)));
      return;
    }
    if (std::isinf(x)) {
      wrong += f16_to_f32(f32_to_f16(x)) != x || bf16_to_f32(f32_to_bf16(x)) != x;
      return;
    }
    wrong += f32_to_f16(x) != kHalf.round(x);
    wrong += f32_to_bf16(x) != kBrain.round(x);
  });
  CHECK(wrong == 0);
}

TEST_CASE("NaN stays NaN whatever its payload") {
  for (const uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0x7F80FFFFu}) {
    const auto x = std::bit_cast<float>(bits);
    CHECK(std::isnan(f16_to_f32(f32_to_f16(x))));
    CHECK(std::isnan(bf16_to_f32(f32_to_bf16(x))));
  }
}

TEST_CASE("names and sizes") {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    CHECK(dtype_from_name(dtype_name(dtype)) == dtype);
    CHECK((element_bytes(dtype) == 0) == is_quantized(dtype));
  }
  CHECK(dtype_name(static_cast<DType>(200)) == "?");
  CHECK_FALSE(dtype_from_name("q7"));
  CHECK_FALSE(dtype_from_name(""));
  CHECK(group_bytes(DType::kQ8) == 34);
  CHECK(group_bytes(DType::kQ4) == 18);
  CHECK(group_bytes(DType::kQ4A) == 20);
  CHECK(group_bytes(DType::kMXFP4) == 17);
  CHECK(group_bytes(DType::kF32) == 128);
  CHECK(group_bytes(DType::kBF16) == 64);
}
