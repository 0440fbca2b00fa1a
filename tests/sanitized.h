// What tests leave out under the sanitizers or on an emulated processor, which run the same code five to
// twenty times slower: repetitions, not cases. A build of the usual kind runs all.
#pragma once

#include <algorithm>

namespace linnet::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

#ifdef LINNET_EMULATED  // scripts/test_aarch64.sh
inline constexpr bool kSlow = true;
#else
inline constexpr bool kSlow = kSanitized;
#endif

// Of `whole` repetitions, those that are run: a third, but at least four.
constexpr int repetitions(int whole) { return kSlow && whole > 4 ? std::max(4, whole / 3) : whole; }

}  // namespace linnet::testing
