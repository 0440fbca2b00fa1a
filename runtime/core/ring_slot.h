// Rings of keys and values.
#pragma once

#include <cstdint>

namespace linnet {

// The slot of token `position` in a ring that keeps the first `sinks` tokens for good.
constexpr int64_t ring_slot(int64_t position, int64_t sinks, int64_t capacity) {
  return position < sinks ? position : sinks + (position - sinks) % (capacity - sinks);
}

}  // namespace linnet
