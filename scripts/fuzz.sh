#!/usr/bin/env bash
# Runs every fuzz target under AddressSanitizer and UndefinedBehaviorSanitizer, two or more at a time, and fails on a finding.
# usage: scripts/fuzz.sh [SECONDS of each target, 60 by default] [target...]
# LINNET_FUZZ_SEED: where chance begins; without it every run begins elsewhere.
# What was found is kept in build/fuzz-artifacts, new inputs in build/fuzz-corpus (the next run goes on from there).
# Needs clang 19 or later, which Debian 12 and 13 have.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
readonly seconds=${1:-60}
shift || true

version=19
for candidate in 21 20 19; do
  if command -v "clang++-$candidate" >/dev/null; then version=$candidate && break; fi
done
install_packages "${LINNET_BUILD_PACKAGES[@]}" doctest-dev "clang-$version" "libclang-rt-$version-dev"

echo "== building with clang $version"
cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1" \
  -DCMAKE_C_COMPILER="clang-$version" -DCMAKE_CXX_COMPILER="clang++-$version" \
  -DLINNET_FUZZ=ON -DLINNET_SANITIZE=ON -DLINNET_TOGETHER=ON -DLINNET_OWN_TARGETS_ONLY=ON -DLINNET_VULKAN=OFF >/dev/null
cmake --build build/fuzz --target linnet_fuzz_targets

readonly artifacts=$PWD/build/fuzz-artifacts corpora=$PWD/build/fuzz-corpus
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in tests/fuzz/*_fuzz.cc; do
    name=$(basename "$source")
    targets+=("${name%_fuzz.cc}")
  done
fi

# One target; its output in a file of its own. A corpus of another target's name where the inputs are the same.
run_target() {
  local name=$1 log=$artifacts/$1.log corpus=tests/fuzz/corpus/$1
  if [ "$name" = fields ]; then corpus=tests/fuzz/corpus/model; fi
  mkdir -p "$corpora/$name" "$artifacts/$name"
  local status=0
  build/fuzz/tests/linnet_"$name"_fuzz -seed="${LINNET_FUZZ_SEED:-0}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -malloc_limit_mb=2000 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="$artifacts/$name/" "$corpora/$name" $([ -d "$corpus" ] && echo "$corpus") \
    >"$log" 2>&1 || status=$?
  local runs
  runs=$(grep -o 'stat::number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*$' || echo 0)
  if [ "$status" -eq 0 ]; then
    echo "$name: $runs runs, nothing found"
  else
    echo "$name: FOUND something after $runs runs (exit code $status): see $log and $artifacts/$name"
    grep -m1 -E 'ERROR|SUMMARY' "$log" || tail -n 3 "$log"
  fi
  return "$status"
}
export -f run_target
export artifacts corpora seconds

echo "== ${#targets[@]} targets, $seconds s each"
mkdir -p "$artifacts"
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_target {}'
