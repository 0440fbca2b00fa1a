// What tests leave out under the sanitizers, which run the same code five to twenty times slower:
// repetitions, not cases. The build without them runs all.
#pragma once

#include <algorithm>

namespace linnet::testing {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Of `whole` repetitions, those that are run: a third, but at least four.
constexpr int repetitions(int whole) { return kSanitized && whole > 4 ? std::max(4, whole / 3) : whole; }

}  // namespace linnet::testing
