#!/usr/bin/env bash
# All that proves the source, hours of it: the test command with the kernels of every instruction set, the sanitizers, fuzzing,
# the soak, AArch64 and Debian 13. Every step is run, whatever the ones before it gave; fails if any did.
# usage: scripts/nightly.sh [seconds of each fuzz target, 1800 by default]
set -uo pipefail
cd "$(dirname "$0")/.."
source scripts/steps.sh
readonly seconds=${1:-1800}
failed=()

try() {
  local what=$1
  shift
  step "$what"
  "$@" || failed+=("$what")
}
# Files compiled eight at a time do not miss an #include that one by one they would.
one_by_one() {
  cmake -S . -B build/plain -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DLINNET_WERROR=ON >/dev/null &&
    cmake --build build/plain
}
try "the test command, kernels of every instruction set" env LINNET_ALL_TARGETS=1 scripts/test.sh
try "every file compiled by itself" one_by_one
try "AddressSanitizer and UndefinedBehaviorSanitizer" env LINNET_SANITIZE_ALL=1 scripts/sanitize.sh
try "ThreadSanitizer" scripts/tsan.sh
try "fuzzing, $seconds s a target" scripts/fuzz.sh "$seconds"
try "soak" scripts/soak.sh
try "full disks, little memory, kills, rivals" scripts/outputs.sh build/test/linnet
try "AArch64 under emulation" scripts/test_aarch64.sh
try "Debian 13" scripts/test_debian13.sh
report_steps
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "All passed."
