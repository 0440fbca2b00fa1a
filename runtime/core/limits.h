// Bounds that every layer relies on.
#pragma once

#include <cstddef>

namespace linnet {

// Most dimensions of a value, weight or state: shapes are held in arrays of this many. The verifier of model
// files refuses more.
inline constexpr size_t kMaxRank = 6;

}  // namespace linnet
