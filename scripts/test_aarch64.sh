#!/usr/bin/env bash
# The kernel, op and model tests on AArch64: cross-compiled with Debian's compiler against Debian's arm64 packages, run under
# qemu-user with every feature it has (-cpu max), so that the NEON, dot product, i8mm and bf16 kernels all run.
# usage: scripts/test_aarch64.sh [folder of tests...]     (default: kernels ops models)
# A whole build, and an emulated processor: scripts/nightly.sh runs it. Speed says nothing here, and
# repeated random cases are a third of the usual number (tests/sanitized.h).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}" "${LINNET_AARCH64_PACKAGES[@]}"

readonly root=$PWD/build/aarch64-root
folders=("$@")
if [ ${#folders[@]} -eq 0 ]; then folders=(kernels ops models); fi
targets=("${folders[@]/#/linnet_}")
targets=("${targets[@]/%/_tests}")

step() { echo "== $*" >&2; }

# Headers and libraries, from where this system has its packages: only unpacked here, nothing of them is configured or becomes
# part of this system. apt works on lists and a cache of its own, in which nothing is installed.
if [ ! -f "$root/.complete" ]; then
  step "arm64 packages"
  rm -rf "$root"
  mkdir -p "$root"/apt/{state/lists/partial,cache/archives/partial}
  touch "$root/apt/status"
  apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
    -o Dir::State="$root/apt/state" -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt/cache")
  "${apt[@]}" update >&2
  # The compiler's own version of the library.
  "${apt[@]}" install -y --download-only --no-install-recommends "${LINNET_AARCH64_LIBRARIES[@]}" \
    "libstdc++-$(aarch64-linux-gnu-g++ -dumpversion)-dev" >&2
  for package in "$root"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  rm -r "$root/apt"
  [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"  # Debian 13's packages count on it
  # qemu looks a path up here first: what the tests write is to be where it is for the rest of the system.
  rm -rf "$root"/{dev,proc,run,sys,tmp}
  touch "$root/.complete"
fi

step "building"
cat >build/aarch64.cmake <<EOF
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_SYSROOT $root)
set(CMAKE_CROSSCOMPILING_EMULATOR $(command -v qemu-aarch64-static || command -v qemu-aarch64) -cpu max -L $root)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
EOF
cmake -S . -B build/aarch64 -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON -DLINNET_VULKAN=OFF \
  -DCMAKE_CXX_FLAGS=-DLINNET_EMULATED -DCMAKE_TOOLCHAIN_FILE="$PWD/build/aarch64.cmake" >/dev/null
cmake --build build/aarch64 -j "$(nproc)" --target "${targets[@]}"

step "tests of ${folders[*]}"
ctest --test-dir build/aarch64 --output-on-failure -j "$(nproc)" -R "^($(IFS='|'; echo "${folders[*]}"))/"
