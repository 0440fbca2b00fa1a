"""Fashion-MNIST as Debian's dataset-fashion-mnist carries it (MIT licence)."""

import gzip
import os

import numpy as np
import torch

FOLDER = "/usr/share/datasets/fashion-mnist"
NAMES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def load(part, folder=FOLDER):
    """part "train" or "t10k" -> images [N, 1, 28, 28] in [-1, 1], labels [N]."""
    with gzip.open(os.path.join(folder, f"{part}-images-idx3-ubyte.gz")) as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(os.path.join(folder, f"{part}-labels-idx1-ubyte.gz")) as f:
        labels = np.frombuffer(f.read(), np.uint8, offset=8)
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1), torch.from_numpy(labels.astype(np.int64))
