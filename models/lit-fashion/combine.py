"""LCSC (arXiv 2404.02241): looks for the linear combination of stage 3's checkpoints whose pictures are best, by an
evolutionary search over the coefficients (they sum to one, and may be negative). A candidate is exported, converted and
sampled with `linnet` itself; its fitness is the Frechet distance of a few pictures. Writes combined.pt; measure it with
evaluate.py on other seeds.

    python combine.py --linnet build/linnet --out /tmp/lit-fashion --minutes 10
"""

import argparse
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
from safetensors.torch import save_file

from evaluate import Judge, paint
from export import lit_tensors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--linnet", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, default=20, help="pictures of each class for a candidate")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sampler", default="dpm++")
    parser.add_argument("--minutes", type=float, default=10, help="of the search, by the clock")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, random = Judge(f"{args.out}/classifier.pt"), np.random.default_rng(args.seed)
    paths = sorted(os.listdir(f"{args.out}/lit-checkpoints"))
    states = [torch.load(f"{args.out}/lit-checkpoints/{p}") for p in paths] + [torch.load(f"{args.out}/lit.pt")]

    def combine(c):
        return {key: sum(float(w) * state[key] for w, state in zip(c, states)) for key in states[0]}

    def fitness(c):
        with tempfile.TemporaryDirectory() as folder:
            save_file(lit_tensors(combine(c)), f"{folder}/lit.safetensors")
            subprocess.run([args.linnet, "convert", f"{args.out}/dit", "--linear-attention", f"{folder}/lit.safetensors",
                            "-o", f"{folder}/m.lnt", "--quantize", "q8"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            pictures, labels = paint(args.linnet, f"{folder}/m.lnt", args.count, ["--steps", str(args.steps), "--sampler", args.sampler, "--seed", "1"])
        right, distance = judge(pictures, labels)
        return distance, right

    n = len(states)
    found = []

    def consider(c, what):
        distance, right = fitness(c)
        found.append((distance, right, c))
        found.sort(key=lambda entry: entry[0])
        print(f"{what}: distance {distance:.2f}, accuracy {right:.3f}; best {found[0][0]:.2f}", flush=True)

    for i in range(n):
        consider(np.eye(n)[i], (paths + ["average"])[i])
    consider(np.full(n, 1 / n), "mean")
    start = time.time()
    while (spent := (time.time() - start) / (60 * args.minutes)) < 1:
        # One of the best, crossed with another of them, and moved a little; smaller moves as the search goes on.
        a, b = found[random.integers(min(4, len(found)))][2], found[random.integers(min(4, len(found)))][2]
        c = a + random.random() * (b - a) + random.normal(size=n) * 0.3 * (1 - 0.8 * spent) / np.sqrt(n)
        consider(c + (1 - c.sum()) / n, "candidate")
    print("coefficients:", " ".join(f"{name}={w:.3f}" for name, w in zip(paths + ["average"], found[0][2])))
    torch.save(combine(found[0][2]), f"{args.out}/combined.pt")


if __name__ == "__main__":
    main()
