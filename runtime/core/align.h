#pragma once

#include <concepts>
#include <type_traits>

namespace linnet {

// The next multiple of `alignment`, any positive number.
template <std::unsigned_integral T>
constexpr T align_up(T value, std::type_identity_t<T> alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace linnet
