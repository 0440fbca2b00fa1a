#!/usr/bin/env bash
# Long use of one process, memory and time flat: 20,000 tokens of one chat on a windowed and on a recurrent model, 1,000
# pictures, 2,000 models and sessions opened and closed.
# usage: scripts/soak.sh [--tokens N] [--pictures N] [--opens N]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_TEST_PACKAGES[@]}"
cmake -S . -B build/test -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_WERROR=ON -DLINNET_TOGETHER=ON >/dev/null
cmake --build build/test --target linnet_soak
exec nice build/test/tests/linnet_soak "$@"
