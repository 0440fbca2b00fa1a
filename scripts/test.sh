#!/usr/bin/env bash
# Builds with warnings as errors and runs every test, then the fast tests under AddressSanitizer and
# UndefinedBehaviorSanitizer (which replays the fuzz corpus too), then the format check; at last, as far as thirty minutes
# reach, the kernel, op and model tests on AArch64.
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
# A third build takes from three minutes, where the compiler cache knows it, to half an hour with its tests: it gets what is
# left of the thirty minutes that this script has. A failure counts, an end of the time does not.
for folder in kernels ops models; do
  room=$((1620 - SECONDS))
  echo "== AArch64 under emulation: $folder"
  if [ "$room" -lt 300 ]; then
    echo "SKIPPED: $SECONDS s are over. scripts/test_aarch64.sh runs it."
    continue
  fi
  status=0
  timeout "$room" scripts/test_aarch64.sh "$folder" || status=$?
  if [ "$status" -eq 124 ]; then
    echo "SKIPPED: not done in $room s. scripts/test_aarch64.sh runs it."
  elif [ "$status" -ne 0 ]; then
    exit "$status"
  fi
done
echo "All tests passed."
