#!/usr/bin/env bash
# Remakes the tables of docs/performance.md: Linnet beside llama.cpp and PyTorch on one machine, rounds in turn.
# usage: scripts/benchmark.sh [ROUNDS] [more options of tests/bench/compare_llama_cpp.py]
# Needs a quiet machine, 14 GB of disk, and for the peers a Python with llama-cpp-python, gguf and numpy, and with
# torch, diffusers and transformers (PYTHON=/path/to/python; pip builds llama.cpp in about 12 minutes). What is
# missing is skipped aloud.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly rounds=${1:-5}
shift || true
readonly python=${PYTHON:-python3}
readonly folder=${LINNET_BENCH_FOLDER:-models/downloads/bench}
readonly smollm2=models/downloads/SmolLM2-135M-Instruct.Q4_1.gguf

step() { echo "== $*" >&2; }

step "building"
cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DLINNET_TESTS=ON >/dev/null
cmake --build build/release --target linnet linnet_kernels_bench linnet_image_bench linnet_convolution_bench >&2

step "models"
mkdir -p "$folder"
models=()
if [ -f "$smollm2" ]; then models+=("$smollm2"); else step "SKIPPED SmolLM2: scripts/quickstart.sh fetches it"; fi
if "$python" -c 'import gguf, llama_cpp' 2>/dev/null; then
  for name in mamba2-370m.q4_0 rwkv7-0.4b.q4_0 qwen35-0.8b.q4_0 llama-1b.q4_0 llama-1b.q8_0; do
    file=$folder/$name.gguf
    [ -f "$file" ] || "$python" tests/bench/random_gguf.py "${name%.*}" "$file" --type "${name##*.}" >&2
    models+=("$file")
  done
else
  step "SKIPPED the random models: $python has no gguf and llama-cpp-python"
fi

step "the machine"
lscpu | grep -E "Model name|^CPU\(s\)|L2 cache|L3 cache|Flags" | sed -E 's/Flags: *(.*)/\1/; s/ +/ /g' |
  grep -oE "Model name.*|CPU\(s\).*|L[23] cache.*|avx2|avx512f|avx512_vnni|avx_vnni|avx512_bf16" | paste -sd ';'

step "matrix kernels beside the machine's limits"
build/release/tests/bench/linnet_kernels_bench --rounds 5

if [ ${#models[@]} -gt 0 ]; then
  step "beside llama.cpp"
  "$python" tests/bench/compare_llama_cpp.py build/release/linnet "${models[@]}" --rounds "$rounds" "$@"
fi

step "SANA-0.6B and DC-AE beside PyTorch"
if "$python" -c 'import diffusers, torch, transformers' 2>/dev/null; then
  sana=$folder/sana-0.6b.lnt
  if [ ! -f "$sana" ]; then
    "$python" tests/bench/sana_random.py "$folder/sana-0.6b" tests/golden/image/sana_pipeline/model/tokenizer >&2
    build/release/linnet convert "$folder/sana-0.6b" -o "$sana" --quantize q8 --keep 'layers.*=q4' --keep 'embed_tokens*=q4' >&2
    rm -r "$folder/sana-0.6b"
  fi
  compare=("$python" tests/bench/compare_diffusers.py build/release/tests/bench/linnet_image_bench "$sana")
  "${compare[@]}" --what denoise --rounds "$rounds"
  # Without instructions for it a decode in bf16 takes the peer more than eight minutes; the step above shows it slow too.
  types=f32
  if grep -q bf16 /proc/cpuinfo; then types=f32,bf16; fi
  "${compare[@]}" --what decode_image --types "$types" --sizes 512 --rounds "$rounds"
  "${compare[@]}" --what decode_image --types "$types" --sizes 1024 --threads 2 --rounds 1
else
  step "SKIPPED: $python has no torch, diffusers and transformers"
fi

step "convolutions, beside XNNPACK where it is installed (libxnnpack-dev)"
build/release/tests/bench/linnet_convolution_bench 1 5
