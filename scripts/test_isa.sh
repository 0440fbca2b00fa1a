#!/usr/bin/env bash
# The kernel and op tests with each instruction set that Linnet has kernels for: those of this machine one after another
# (LINNET_CPU_TARGET), and under qemu-user on a processor without AVX, to see that nothing beyond the baseline runs there, and
# with AVX2 where this machine has none. AArch64 is scripts/test_aarch64.sh's.
# What no Debian package runs: AVX-512 and AVX-VNNI on a machine without them. qemu-user stops at AVX2, Valgrind too; Intel's
# emulator is no package. Such kernels are compiled here, and tested where the processor has them.
# usage: scripts/test_isa.sh [folder of tests...]     (default: kernels ops)
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
if [ "$(uname -m)" != x86_64 ]; then
  echo "this is for x86-64; scripts/test_aarch64.sh tests AArch64" >&2
  exit 2
fi
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"
emulator=$(command -v qemu-x86_64 || command -v qemu-x86_64-static || true)
if [ -z "$emulator" ]; then
  package=qemu-user
  if apt-cache show qemu-user-static >/dev/null 2>&1; then package=qemu-user-static; fi
  install_packages "$package"
  emulator=$(command -v qemu-x86_64 || command -v qemu-x86_64-static)
fi
folders=("$@")
if [ ${#folders[@]} -eq 0 ]; then folders=(kernels ops); fi

echo "== building"
cmake -S . -B build/test -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON >/dev/null
targets=("${folders[@]/#/linnet_}")
cmake --build build/test --target "${targets[@]/%/_tests}"

declare -A flag=([portable]=lm [avx2]=avx2 [avxvnni]=avx_vnni [avx512]=avx512bw [avx512vnni]=avx512_vnni [avx512bf16]=avx512_bf16)
not_run=()
run() {  # TARGET [emulator...]
  local target=$1 folder
  shift
  for folder in "${folders[@]}"; do
    echo "== $folder with $target${*:+ under $(basename "$1") ${*:2}}"
    LINNET_CPU_TARGET=$target "$@" "build/test/tests/linnet_${folder}_tests" --no-intro --minimal
  done
}
for target in portable avx2 avxvnni avx512 avx512vnni avx512bf16; do
  if grep -qE "^flags.* ${flag[$target]}( |$)" /proc/cpuinfo; then
    run "$target"
  elif [ "$target" = avx2 ]; then
    run avx2 "$emulator" -cpu max
  else
    not_run+=("$target")
  fi
done
# An emulated processor does not run what it lacks: a stray AVX instruction ends the test. The tests know that they are slow.
run portable "$emulator" -cpu Nehalem
echo "All instruction sets of this machine passed.${not_run[*]:+ NOT RUN, for want of a processor: ${not_run[*]}}"
