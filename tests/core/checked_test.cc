#include "runtime/core/checked.h"

#include <doctest/doctest.h>

#include <limits>

namespace linnet {

TEST_CASE("sizes that do not fit stay so") {
  constexpr size_t kMost = std::numeric_limits<size_t>::max();
  CHECK((CheckedSize(3) * 5 + 1).within(16) == 16);
  CHECK(!(CheckedSize(3) * 5 + 1).within(15));
  CHECK(!(CheckedSize(kMost) + 1).within(kMost));
  CHECK(!(CheckedSize(kMost) + 1 + 7).within(kMost));
  CHECK(!(CheckedSize(size_t{1} << 32) * (size_t{1} << 32)).within(kMost));
  CHECK(!((CheckedSize(size_t{1} << 32) * (size_t{1} << 32)) * 0).within(kMost));
  CHECK(!CheckedSize(-1).within(kMost));
  CHECK(!(CheckedSize(5) * int64_t{-2}).within(kMost));
  CHECK((CheckedSize(kMost) * 0).within(0) == 0);
  CHECK(CheckedSize(1).aligned(64).within(64) == 64);
  CHECK(CheckedSize(64).aligned(64).within(64) == 64);
  CHECK(!CheckedSize(kMost).aligned(64).within(kMost));
}

}  // namespace linnet
