#!/usr/bin/env python3
"""How far two Linnet files, or two ways to run one, are apart: KL divergence and greedy agreement.

usage: divergence.py LINNET EXACT.lnt OTHER.lnt [--exact-args "..."] [--other-args "--state-type f16"] [--tokens 256] [--seeds 2]

Feeds the same random token ids to both (`linnet run`, all logits) and prints the mean and the largest KL divergence of a token in nats, how often
both would choose the same next token, and the means of the first and the last eighth of the tokens: what a state keeps adds up. With random
weights (random_gguf.py) the figures rank precisions; they say little about what a trained model would lose. Needs numpy.
"""
import argparse
import os
import shlex
import subprocess
import tempfile

import numpy as np

from smollm2 import read_logits, write_ids


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('linnet')
    parser.add_argument('exact')
    parser.add_argument('other')
    parser.add_argument('--exact-args', default='')
    parser.add_argument('--other-args', default='')
    parser.add_argument('--tokens', type=int, default=256)
    parser.add_argument('--seeds', type=int, default=2)
    args = parser.parse_args()
    kl, same = [], []
    with tempfile.TemporaryDirectory() as folder:
        x = os.path.join(folder, 'x.safetensors')
        outputs = [os.path.join(folder, name) for name in ('exact.safetensors', 'other.safetensors')]
        for seed in range(args.seeds):
            write_ids(x, np.random.default_rng(seed).integers(0, 32000, args.tokens))
            for model, more, y in ((args.exact, args.exact_args, outputs[0]), (args.other, args.other_args, outputs[1])):
                subprocess.run([args.linnet, 'run', model, '--inputs', x, '--outputs', y] + shlex.split(more), check=True,
                               stderr=subprocess.DEVNULL)
            a, b = (read_logits(y) for y in outputs)
            if not (np.isfinite(a).all() and np.isfinite(b).all() and a.any() and a.shape == b.shape):
                raise SystemExit('seed %d: logits that are not finite, zero throughout or of different shapes' % seed)
            own = []
            for i in range(0, args.tokens, 32):  # vocabularies are large
                p, q = log_softmax(a[i:i + 32]), log_softmax(b[i:i + 32])
                own += list((np.exp(p) * (p - q)).sum(axis=1))
            kl.append(own)
            same += list(a.argmax(axis=1) == b.argmax(axis=1))
    kl = np.array(kl)
    eighth = max(1, args.tokens // 8)
    print('KL %.6f nats a token (largest %.6f; first eighth %.6f, last eighth %.6f), greedy agreement %d of %d' %
          (kl.mean(), kl.max(), kl[:, :eighth].mean(), kl[:, -eighth:].mean(), sum(same), len(same)))


if __name__ == '__main__':
    main()
