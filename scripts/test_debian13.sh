#!/usr/bin/env bash
# The README's steps on a bare Debian 13: a minimal system is made in build/debian13 with debootstrap, and in it this source is
# built as scripts/quickstart.sh builds it and its fast tests are run. Needs root (chroot) and the network; DEBIAN_MIRROR=URL takes
# another mirror than this system's.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
if [ "$(id -u)" -ne 0 ]; then
  echo "scripts/test_debian13.sh makes a system to run in and needs root: run it with sudo." >&2
  exit 1
fi
install_packages debootstrap debian-archive-keyring

readonly root=$PWD/build/debian13
# The mirror that this system has its own packages from.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m1 '/debian/*$')}
if [ ! -f "$root/.complete" ]; then
  echo "== a bare Debian 13"
  rm -rf "$root"
  if [ -z "$mirror" ]; then
    echo "scripts/test_debian13.sh found no Debian mirror among this system's sources: name one with DEBIAN_MIRROR=URL." >&2
    exit 1
  fi
  debootstrap --variant=minbase trixie "$root" "$mirror" >"$PWD/build/debian13.log" 2>&1 ||
    { tail -n 20 "$PWD/build/debian13.log" >&2 && exit 1; }
  touch "$root/.complete"
fi
mkdir -p "$root/linnet" "$root/proc" "$root/dev" "$root/sys"
unmount() {
  local folder
  for folder in proc dev sys; do umount "$root/$folder" 2>/dev/null || true; done
}
trap unmount EXIT
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev" && mount --make-rslave "$root/dev"
mount -t sysfs sys "$root/sys"

echo "== the source, as git has it"
git ls-files | tar -cf - -T - | tar -xf - -C "$root/linnet"

echo "== the README's steps in it"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" bash -euo pipefail -c '
  cd /linnet
  scripts/quickstart.sh --build-only
  source scripts/packages.sh
  install_packages "${LINNET_TEST_PACKAGES[@]}"
  cmake -S . -B build/test -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON -DLINNET_OWN_TARGETS_ONLY=ON >/dev/null
  cmake --build build/test --target linnet_fast_tests
  LINNET_TEST_VULKAN=1 LP_NUM_THREADS=1 GALLIVM_PERF=nopt ctest --test-dir build/test --output-on-failure -j "$(nproc)" -L fast
'
echo "Debian 13 passed."
