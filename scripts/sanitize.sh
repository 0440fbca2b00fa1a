#!/usr/bin/env bash
# The fast tests, and the fuzz corpus, under AddressSanitizer and UndefinedBehaviorSanitizer. With LINNET_SANITIZE_ALL=1
# (scripts/nightly.sh) the long use of one process too, which says of leaks what the tests have said already.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"

# Without Vulkan: the software driver leaks at exit and is compiled without the sanitizer. So the part of the build that has it
# would not be run, and this is the test that a build without it works.
cmake -S . -B build/sanitize -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" \
  -DLINNET_WERROR=ON -DLINNET_SANITIZE=ON -DLINNET_TOGETHER=ON -DLINNET_OWN_TARGETS_ONLY=ON -DLINNET_VULKAN=OFF >/dev/null
cmake --build build/sanitize -j "$(nproc)" --target linnet_fast_tests
left_out=(-E "^soak/")
if [ "${LINNET_SANITIZE_ALL:-0}" = 1 ]; then left_out=(); fi
ctest --test-dir build/sanitize --output-on-failure -j "$(nproc)" -L fast "${left_out[@]}"
