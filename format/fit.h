// The codes of a block format, and which scale and minimum fit some values best: what quantize_row.cc rounds
// with.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>

#include "format/block_group.h"
#include "runtime/core/dtype.h"

namespace linnet::format {

// Round to nearest even for |x| < 2^22 with one addition, which vectorises on the SSE2 baseline where
// nearbyint() is a call. Larger or NaN values give a meaningless integer; callers clamp it.
inline int32_t nearest_integer(float x) { return std::bit_cast<int32_t>(x + 12582912.0f) - 0x4B400000; }

int32_t largest_code(DType dtype);

// The codes of a format: which is nearest to a number of steps.
class Codes {
 public:
  explicit Codes(DType dtype);
  bool in_table() const { return is_table(kind_); }
  // As step_of() says, inline.
  float step(uint8_t code) const {
    if (in_table()) return static_cast<float>(steps_of_table(kind_)[code & 15]);
    return static_cast<float>((kind_ == CodeKind::kSigned ? static_cast<int8_t>(code) : code) - zero_);
  }
  // The nearest of codes that are no table's, with its sign if they have one.
  int32_t nearest_uniform(float steps) const {
    // Clamped as a float first: a subnormal f16 scale can be far below the exact one.
    const float t = std::clamp(steps, -1000.0f, 1000.0f);
    return std::clamp(nearest_integer(t) + zero_, low_, high_);
  }
  int32_t zero() const { return zero_; }
  // The ends of the steps.
  float lowest() const { return is_table(kind_) ? step(order_[0]) : static_cast<float>(low_ - zero_); }
  float highest() const { return is_table(kind_) ? step(order_[15]) : static_cast<float>(high_ - zero_); }
  uint8_t nearest(float steps) const {
    if (!in_table()) return static_cast<uint8_t>(nearest_uniform(steps));
    const float t = std::clamp(steps, -1000.0f, 1000.0f);
    size_t at = 0;
    for (size_t i = 1; i < 16; ++i) at += 2 * t > step(order_[i - 1]) + step(order_[i]) ? 1 : 0;
    return order_[at];
  }

 private:
  CodeKind kind_;
  int32_t low_, high_, zero_;
  std::array<uint8_t, 16> order_{};  // of a table, by steps
};

// How much the error of each value counts, as long as the values; empty: all alike. What multiplies a column
// of a matrix on average squared is what its errors cost (converter/calibrate).
using Importance = std::span<const float>;

// The scale and the minimum of some values, and the squared error with the nearest codes.
struct Fit {
  float scale = 0, minimum = 0;
  float error = std::numeric_limits<float>::infinity();
};

// Codes of `x` (a multiple of four values) at a scale and a minimum; returns the squared error, weighted.
// (Codes are passed by value where bytes are written: a reference would be read again after each.)
float round_codes(Codes codes, std::span<const float> x, float scale, float minimum, uint8_t* out,
                  Importance importance = {});
// The scale that fits the codes best (least squares), without a minimum; 0 where all codes mean 0.
float fitted_scale(Codes codes, std::span<const float> x, const uint8_t* q, Importance importance = {});

// Without a minimum: the extreme value at the end of the codes on its side or on the other (with a negative
// scale), or up to a fifth before and beyond it, each fitted.
Fit fit_scale(const Codes& codes, std::span<const float> x, Importance importance = {});
// With a minimum, which is not above 0 unless it may have any sign: the range of the values, or somewhat
// less, each fitted by least squares.
Fit fit_range(const Codes& codes, std::span<const float> x, bool any_sign = false,
              Importance importance = {});

}  // namespace linnet::format
