#!/usr/bin/env bash
# The test command: installs what is missing, checks the format, makes a release build with warnings as errors and runs every
# test. It says what it does and how long each step took.
# Kernels are built for the instruction sets that this machine has, since no others can be tested on it; LINNET_ALL_TARGETS=1
# builds all. What more proves a change (sanitizers, threads, fuzzing) is in .ci/run, what takes hours in scripts/nightly.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
source scripts/steps.sh
jobs=$(nproc)
own=ON
if [ "${LINNET_ALL_TARGETS:-0}" = 1 ]; then own=OFF; fi

step "packages"
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"

step "format of the source"
# The check is made with the version that Debian 12 has: others format some lines differently.
if clang-format --version | grep -q 'version 14\.'; then
  # Without git (a plain archive of the sources): all that is there.
  { git ls-files '*.cc' '*.h' 2>/dev/null ||
    find apps backends converter format runtime tests -name '*.cc' -o -name '*.h'; } |
    xargs clang-format --dry-run --Werror
else
  echo "SKIPPED: $(clang-format --version) is not version 14 (Debian 12's), whose format the source has"
fi

step "release build, warnings are errors"
cmake -S . -B build/test -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON \
  -DLINNET_OWN_TARGETS_ONLY=$own | grep -E '^-- (Kernels|Vulkan)' || true
cmake --build build/test -j "$jobs"

step "every test"
# A machine without a Vulkan device fails here rather than skipping. Compiling shaders is most of what the software device does:
# without optimisation the tests take a fifth less time.
LINNET_TEST_VULKAN=1 LP_NUM_THREADS=1 GALLIVM_PERF=nopt ctest --test-dir build/test --output-on-failure -j "$jobs"
echo "What tests left out here, and in how many executables:"
grep -h '^SKIPPED in ' build/test/Testing/Temporary/LastTest.log | sort | uniq -c || echo "nothing"

report_steps
echo "All tests passed."
