"""What both trainings share: a wall-clock budget, an average of the weights, checkpoints and a curve on disk."""

import copy
import csv
import math
import os
import time

import torch


class Average:
    """Exponential moving average of a model's weights, with a warm-up so that short trainings are not held back."""

    def __init__(self, model, decay=0.9995):
        self.model, self.decay, self.count = copy.deepcopy(model).eval(), decay, 0

    @torch.no_grad()
    def update(self, model):
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)


class Budget:
    """Learning rate by the part of the budget that is spent: warm-up, constant, then a cosine to zero. The budget is
    processor time, so that a busy machine trains as much as an idle one, within a limit of wall-clock time; or, given
    steps, so many."""

    def __init__(self, minutes, rate, wall=None, warm_up=100, decay_from=0.5, steps=None):
        self.start, self.cpu_start = time.time(), time.process_time()
        self.seconds, self.wall, self.rate = minutes * 60, (wall or 60 * minutes) * 60, rate
        self.warm_up, self.decay_from, self.step, self.steps = warm_up, decay_from, 0, steps

    def spent(self):
        processor = self.step / self.steps if self.steps else (time.process_time() - self.cpu_start) / self.seconds
        return max(processor, (time.time() - self.start) / self.wall)

    def next_rate(self):
        """None when the budget is spent."""
        spent = self.spent()
        if spent >= 1:
            return None
        self.step += 1
        rate = self.rate * min(1.0, self.step / self.warm_up)
        if spent > self.decay_from:
            rate *= 0.5 * (1 + math.cos(math.pi * (spent - self.decay_from) / (1 - self.decay_from)))
        return rate


class Curve:
    def __init__(self, path, columns, every=25):
        self.path, self.every, self.sums, self.count = path, every, None, 0
        self.start = time.time()
        with open(path, "w", newline="") as f:
            csv.writer(f, lineterminator="\n").writerow(["step", "minutes", *columns])

    def add(self, step, values):
        self.sums = values if self.sums is None else [a + b for a, b in zip(self.sums, values)]
        self.count += 1
        if step % self.every == 0:
            row = [step, f"{(time.time() - self.start) / 60:.2f}", *(f"{v / self.count:.5f}" for v in self.sums)]
            with open(self.path, "a", newline="") as f:
                csv.writer(f, lineterminator="\n").writerow(row)
            self.sums, self.count = None, 0


def save(path, model):
    """Written beside and renamed, so that a reader never sees half a file."""
    torch.save(model.state_dict(), path + ".tmp")
    os.replace(path + ".tmp", path)
