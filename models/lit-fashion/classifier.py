"""A small convolutional classifier, trained on its own: the judge of generated pictures (accuracy of their
class, and Frechet distance of its 64 features to those of the test set).

    OMP_NUM_THREADS=1 python classifier.py --out /tmp/lit-fashion --minutes 3
"""

import argparse
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

import data
from training import Budget, save


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, stride=2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.features_layer = nn.Linear(64 * 16, 64)
        self.last = nn.Linear(64, 10)

    def features(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return F.relu(self.features_layer(x.flatten(1)))

    def forward(self, x):
        return self.last(self.features(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--wall", type=float, help="most minutes by the clock")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(args.seed)
    images, labels = data.load("train")
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters())
    budget = Budget(args.minutes, 2e-3, args.wall)
    while (rate := budget.next_rate()) is not None:
        optimizer.param_groups[0]["lr"] = rate
        chosen = torch.randint(len(images), (128,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    save(f"{args.out}/classifier.pt", model)
    test_images, test_labels = data.load("t10k")
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item()
                    for x, y in zip(test_images.split(1000), test_labels.split(1000)))
    print(f"{budget.step} steps, test accuracy {right / len(test_labels):.4f}")


if __name__ == "__main__":
    main()
