#!/usr/bin/env bash
# Builds with warnings as errors and runs every test, then the fast tests under AddressSanitizer and
# UndefinedBehaviorSanitizer (which replays the fuzz corpus too), then the format check.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"

jobs=$(nproc)
echo "== build and test"
cmake -S . -B build/test -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON >/dev/null
cmake --build build/test -j "$jobs"
# A machine without a Vulkan device fails here rather than skipping. Compiling shaders is most of what the software device does:
# without optimisation the tests take a fifth less time.
LINNET_TEST_VULKAN=1 LP_NUM_THREADS=1 GALLIVM_PERF=nopt ctest --test-dir build/test --output-on-failure -j "$jobs"

echo "== sanitizers"
cmake -S . -B build/sanitize -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" \
  -DLINNET_SANITIZE=ON -DLINNET_TOGETHER=ON -DLINNET_OWN_TARGETS_ONLY=ON -DLINNET_VULKAN=OFF >/dev/null
cmake --build build/sanitize -j "$jobs" --target linnet_fast_tests
# Without Vulkan: the software driver leaks at exit and is compiled without the sanitizer. So the part of the build that has it
# would not be run, and this is the test that a build without it works.
ctest --test-dir build/sanitize --output-on-failure -j "$jobs" -L fast

echo "== format"
# The check is made with the version that Debian 12 has: others format some lines differently.
if clang-format --version | grep -q 'version 14\.'; then
  # Without git (a plain archive of the sources): all that is there.
  { git ls-files '*.cc' '*.h' 2>/dev/null ||
    find apps backends converter format runtime tests -name '*.cc' -o -name '*.h'; } |
    xargs clang-format --dry-run --Werror
else
  echo "skipped: clang-format is not version 14"
fi
echo "All tests passed."
