// The few elements of a row that matter when a token is chosen: all that has to leave a GPU.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet {

// An element of a row and where it stands: of logits, the token's id.
struct Ranked {
  int32_t id;
  float value;
  bool operator==(const Ranked&) const = default;
};

// The larger value first, of equal ones the lower id.
inline bool ranks_before(const Ranked& a, const Ranked& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

// The most that a run gives.
inline constexpr size_t kMostRanked = 128;

}  // namespace linnet
