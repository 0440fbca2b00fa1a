"""Measures pictures that `linnet image` makes: how many the classifier takes for their class, and the Frechet
distance of its features to those of the training set.

    python evaluate.py MODEL.lnt... --linnet build/linnet --out /tmp/lit-fashion --count 100 --steps 10 20 50

Prints a row of a Markdown table for each model and step count. Arguments after -- go to `linnet image`.
"""

import argparse
import os
import subprocess
import sys
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


class Judge:
    """The classifier, and mean and covariance of its features on the training set."""

    @torch.no_grad()
    def __init__(self, path):
        self.classifier = Classifier().eval()
        self.classifier.load_state_dict(torch.load(path))
        features = torch.cat([self.classifier.features(x) for x in data.load("train")[0].split(1000)]).numpy()
        self.mean, self.covariance = features.mean(0), np.cov(features.T)
        self.root = square_root(self.covariance)

    @torch.no_grad()
    def __call__(self, pictures, labels):
        """Part of the pictures taken for their class, Frechet distance."""
        features = torch.cat([self.classifier.features(x) for x in pictures.split(1000)])
        right = (self.classifier.last(features).argmax(1) == labels).float().mean().item()
        covariance = np.cov(features.numpy().T)
        mixed = square_root(self.root @ covariance @ self.root)
        distance = ((features.numpy().mean(0) - self.mean) ** 2).sum() + np.trace(self.covariance + covariance - 2 * mixed)
        return right, float(distance)


def paint(linnet, model, count, options, threads=1):
    """count pictures of each class, as the model gives them (before they are rounded to bytes), and their labels."""
    with tempfile.TemporaryDirectory() as folder:
        tensors = os.path.join(folder, "t.safetensors")
        subprocess.run([linnet, "image", model, "--class", "all", "--count", str(count), "--threads", str(threads),
                        "-o", os.path.join(folder, "s.png"), "--tensors", tensors, *options], check=True, stderr=subprocess.DEVNULL)
        made = load_file(tensors)
    return torch.stack([made[f"image.{i}"] for i in range(10 * count)]), torch.arange(10).repeat(count)


def main():
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[:own.index("--")], own[own.index("--") + 1:]
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--linnet", required=True)
    parser.add_argument("--out", required=True, help="where classifier.pt is")
    parser.add_argument("--count", type=int, default=50, help="pictures of each class")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(own)
    torch.set_num_threads(args.threads)
    judge = Judge(f"{args.out}/classifier.pt")
    print("| model | steps | accuracy of the class | Frechet distance |\n|---|---|---|---|")
    # Real pictures that the training did not see, as many as are made and all: what no model can fall below.
    test, labels = data.load("t10k")
    for some in (10 * args.count, len(test)):
        right, distance = judge(test[:some], labels[:some])
        print(f"| {some} pictures of the test set | | {100 * right:.1f} % | {distance:.1f} |", flush=True)
    for model in args.models:
        for steps in args.steps:
            pictures, wanted = paint(args.linnet, model, args.count, ["--steps", str(steps), "--seed", str(args.seed), *options], args.threads)
            right, distance = judge(pictures, wanted)
            print(f"| {os.path.basename(model)} | {steps} | {100 * right:.1f} % | {distance:.1f} |", flush=True)


if __name__ == "__main__":
    main()
