#!/usr/bin/env bash
# What runs on several threads, under ThreadSanitizer: the thread pool, and sessions, chats and image sessions that share one
# model and one backend. Kernels are compiled for the baseline alone: all instruction sets share their loops out alike.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"

cmake -S . -B build/tsan -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1" -DLINNET_SANITIZE=thread \
  -DLINNET_TOGETHER=ON -DLINNET_OWN_TARGETS_ONLY=ON -DLINNET_VULKAN=OFF >/dev/null
cmake --build build/tsan --target linnet_threads_tests
# The first report ends the test. pthreadpool is not compiled with the sanitizer, which so does not see what it waits for: the
# test of it is left out. GCC 12's sanitizer knows addresses only where a kernel without more randomness puts them.
TSAN_OPTIONS="halt_on_error=1" setarch -R build/tsan/tests/linnet_threads_tests --test-case-exclude="a library's pool*"
