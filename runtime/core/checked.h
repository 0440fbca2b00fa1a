// Sizes whose parts come from a file: sums and products that cannot wrap. A size that no longer fits stays
// so, whatever comes after it, and is asked once, at the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace linnet {

class CheckedSize {
 public:
  constexpr CheckedSize() = default;
  // A negative number does not fit.
  template <typename T>
  requires std::is_integral_v<T>
  constexpr CheckedSize(T value) : value_(static_cast<size_t>(value)), fits_(value >= T{0}) {}

  constexpr CheckedSize& operator+=(CheckedSize other) {
    fits_ = !__builtin_add_overflow(value_, other.value_, &value_) && fits_ && other.fits_;
    return *this;
  }
  constexpr CheckedSize& operator*=(CheckedSize other) {
    fits_ = !__builtin_mul_overflow(value_, other.value_, &value_) && fits_ && other.fits_;
    return *this;
  }
  friend constexpr CheckedSize operator+(CheckedSize a, CheckedSize b) { return a += b; }
  friend constexpr CheckedSize operator*(CheckedSize a, CheckedSize b) { return a *= b; }

  // The next multiple of `alignment`, a positive number.
  constexpr CheckedSize aligned(size_t alignment) const {
    CheckedSize up = *this + (alignment - 1);
    up.value_ = up.value_ / alignment * alignment;
    return up;
  }

  // The size, if it fits and is at most `most`.
  constexpr std::optional<size_t> within(size_t most) const {
    return fits_ && value_ <= most ? std::optional(value_) : std::nullopt;
  }

 private:
  size_t value_ = 0;
  bool fits_ = true;
};

}  // namespace linnet
