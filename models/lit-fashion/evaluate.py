"""Measures pictures that `linnet image` makes: how many the classifier takes for their class, and the Frechet
distance of its features to those of the test set.

    python evaluate.py --linnet build/linnet --out /tmp/lit-fashion --count 50 --steps 10 20 50 MODEL.lnt...

Prints a row of a Markdown table for each model and step count.
"""

import argparse
import os
import subprocess
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

import data
from classifier import Classifier


def square_root(matrix):
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(a, b):
    root = square_root(np.cov(a.T))
    mixed = square_root(root @ np.cov(b.T) @ root)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * mixed))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--linnet", required=True)
    parser.add_argument("--out", required=True, help="where classifier.pt is")
    parser.add_argument("--count", type=int, default=50, help="pictures of each class")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge = Classifier().eval()
    judge.load_state_dict(torch.load(f"{args.out}/classifier.pt"))
    test, labels = data.load("t10k")
    real = torch.cat([judge.features(x) for x in test.split(1000)]).numpy()
    print("| model | steps | accuracy of the class | Frechet distance |\n|---|---|---|---|")
    # The distance that as many real pictures have to the rest: what no model can fall below.
    some = 10 * args.count
    print(f"| {some} real pictures | | {(judge(test[:some]).argmax(1) == labels[:some]).float().mean():.3f} "
          f"| {frechet(real[:some], real[some:]):.2f} |")
    for model in args.models:
        for steps in args.steps:
            with tempfile.TemporaryDirectory() as folder:
                tensors = os.path.join(folder, "t.safetensors")
                subprocess.run([args.linnet, "image", model, "--class", "all", "--count", str(args.count), "--steps", str(steps),
                                "--threads", str(args.threads), "-o", os.path.join(folder, "s.png"), "--tensors", tensors],
                               check=True, stderr=subprocess.DEVNULL)
                made = load_file(tensors)
                pictures = torch.stack([made[f"image.{i}"] for i in range(10 * args.count)])
            wanted = torch.arange(10).repeat(args.count)
            right = (judge(pictures).argmax(1) == wanted).float().mean()
            print(f"| {os.path.basename(model)} | {steps} | {right:.3f} | {frechet(judge.features(pictures).numpy(), real):.2f} |",
                  flush=True)


if __name__ == "__main__":
    main()
