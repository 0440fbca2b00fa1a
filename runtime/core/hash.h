// Keys and seeds from several numbers.
#pragma once

#include <cstdint>

namespace linnet {

// One more number taken into a hash; their order counts. Files keep such keys: the function never changes.
constexpr uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15u + (hash << 6) + (hash >> 2);
  return hash * 0xFF51AFD7ED558CCDu;
}

}  // namespace linnet
