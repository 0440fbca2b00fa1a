#!/usr/bin/env python3
"""Distils SmolLM2 into a linearised form on a CPU: LoRA and the form's own parameters, on generate.py's and texts.py's data.

usage: train.py MODEL.gguf DATA_DIR OUT_DIR --form window|sinks|liger|lolcats [--init ADAPTER_DIR] [--transfer TOKENS]
                [--tokens N] [--minutes 60] [--until HH:MM] [--rate 1e-3] [--keep TOKENS,TOKENS]

Two stages. Attention transfer: every layer's mixer gets the teacher's inputs and learns to give the teacher's outputs (only
the form's own parameters). Distillation: the KL divergence to the teacher over its 24 best tokens and one bucket for the
rest, on the tokens that have a weight; AdamW, the form's own parameters --own times as fast as the LoRA pairs.
Before the first stage the window form's parameters are set from the teacher's keys (smollm2.prepare).

One sequence of 1,000 to 2,000 tokens is a step. Shards that generate.py and texts.py still add are found on the way. The
adapter is saved every few minutes, and once more at each count of --keep; OUT_DIR/curve.csv has every step.
"""
import argparse
import glob
import json
import math
import os
import random
import time

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import smollm2


class Picked(torch.autograd.Function):
    """Log probabilities of some tokens of each row, from logits: one pass over the vocabulary each way."""

    @staticmethod
    def forward(ctx, logits, which):
        total = logits.float().logsumexp(-1, keepdim=True)
        ctx.save_for_backward(logits, which, total)
        return logits.gather(1, which).float() - total

    @staticmethod
    def backward(ctx, grad):
        logits, which, total = ctx.saved_tensors
        out = logits.float().sub_(total).exp_().mul_(-grad.sum(-1, keepdim=True))
        return out.scatter_add_(1, which, grad).to(logits.dtype), None


def kl(logits, best, teacher):
    """KL of the teacher's 25 buckets to the student's, per token."""
    picked = Picked.apply(logits, best)
    rest = lambda logp: torch.log1p(-logp.exp().sum(-1).clamp(max=1 - 1e-6))
    own, other = rest(picked), rest(teacher)
    return (teacher.exp() * (teacher - picked)).sum(-1) + other.exp() * (other - own)


class Data:
    """Sequences of all shards of a folder, chats and texts by turns, each once before any comes again."""

    def __init__(self, folder, seed):
        self.folder, self.rng, self.files, self.used = folder, random.Random(seed), {}, {}

    def scan(self):
        for name in glob.glob(os.path.join(self.folder, '*.safetensors')):
            if name not in self.files:
                with safe_open(name, 'pt') as f:
                    self.files[name] = f.get_slice('ids').get_shape()[0]
                self.used.update({(name, row): 0 for row in range(self.files[name])})

    def take(self, step):
        self.scan()
        kind = ('chats', 'texts')[step % 2]
        choice = [k for k in self.used if os.path.basename(k[0]).startswith(kind)] or list(self.used)
        least = min(self.used[k] for k in choice)
        name, row = picked = self.rng.choice(sorted(k for k in choice if self.used[k] == least))
        self.used[picked] += 1
        with safe_open(name, 'pt') as f:
            part = {k: f.get_slice(k)[row] for k in f.keys()}
        weight = part['weight'] if 'weight' in part else part['wrote'].float()
        t = weight.nonzero()[:, 0]
        t = t[t > 0]
        if len(t) > 768:  # logits are a quarter of the work
            t = t[torch.tensor(sorted(self.rng.sample(range(len(t)), 768)))]
        size = int(part['ids'].nonzero().max()) + 1
        return part['ids'][None, :size].long(), t, weight[t], part['best'][t].long(), part['logp'][t].float()


def save(out, model, a, tokens, loss):
    os.makedirs(out, exist_ok=True)
    save_file({n: v.bfloat16().contiguous() for n, v in model.adapter().items()}, os.path.join(out, 'adapter.safetensors'))
    config = {'form': a.form, 'base': 'SmolLM2-135M-Instruct', 'license': 'apache-2.0', 'window': a.window,
              'sinks': a.sinks, 'tokens_seen': tokens, 'last_loss': round(loss, 4),
              'lora': {'r': a.rank, 'scale': model.scale, 'targets': ['q_proj', 'k_proj', 'v_proj', 'o_proj']}}
    if a.form == 'lolcats':
        config.update(window_size=a.window, normalizer_epsilon=0)
    with open(os.path.join(out, 'config.json'), 'w') as f:
        json.dump(config, f, indent=1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('gguf')
    ap.add_argument('data')
    ap.add_argument('out')
    ap.add_argument('--form', required=True, choices=['window', 'sinks', 'liger', 'lolcats'])
    ap.add_argument('--init')
    ap.add_argument('--window', type=int, help='without it 128; liger: 64, which its importer takes')
    ap.add_argument('--sinks', type=int, default=4)
    ap.add_argument('--rank', type=int, default=8)
    ap.add_argument('--transfer', type=int, default=0, help='tokens of attention transfer first')
    ap.add_argument('--transfer-rate', type=float, default=1e-2)
    ap.add_argument('--tokens', type=float, default=math.inf, help='tokens of distillation')
    ap.add_argument('--minutes', type=float, default=60)
    ap.add_argument('--until', help='stop at this time of day')
    ap.add_argument('--rate', type=float, default=1e-3)
    ap.add_argument('--own', type=float, default=3)
    ap.add_argument('--keep', default='')
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--save-minutes', type=float, default=5)
    ap.add_argument('--threads', type=int, default=1)
    a = ap.parse_args()
    a.window = a.window or (64 if a.form == 'liger' else 128)
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    model = smollm2.Student(a.gguf, a.form, a.window, a.sinks, a.rank, dtype=smollm2.quick())
    data = Data(a.data, a.seed)
    before = 0  # tokens that --init has seen
    if a.init:
        model.load_adapter(load_file(os.path.join(a.init, 'adapter.safetensors')))
        with open(os.path.join(a.init, 'config.json')) as f:
            before = json.load(f).get('tokens_seen', 0)
    elif a.form == 'window':
        smollm2.prepare(model, [data.take(n)[0] for n in range(4)])
    pairs = [p for n, p in model.extra.items() if 'lora' in n]
    own = [p for n, p in model.extra.items() if 'lora' not in n]
    begin = saved = time.time()
    end = begin + 60 * a.minutes
    if a.until:
        h, m = map(int, a.until.split(':'))
        now = time.localtime()
        end = min(end, begin + ((h - now.tm_hour) * 60 + m - now.tm_min) % 1440 * 60)
    curve = open(os.path.join(a.out, 'curve.csv'), 'a', buffering=1)
    curve.write('stage,step,tokens,loss,smooth,seconds\n')
    tokens, step, smooth = 0, 0, None

    def turn(stage, optimizer, share, loss, size):
        nonlocal tokens, step, smooth
        for group in optimizer.param_groups:  # warm up, then half a cosine to nearly nothing: steps of one sequence are noisy
            group.setdefault('peak', group['lr'])
            group['lr'] = group['peak'] * min(1, (step + 1) / 20) * (0.51 + 0.49 * math.cos(math.pi * min(share, 1)))
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g['params']], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        tokens += size
        smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
        curve.write('%s,%d,%d,%.4f,%.4f,%.0f\n' % (stage, step, tokens, loss, smooth, time.time() - begin))

    if a.transfer and own:
        optimizer = torch.optim.AdamW(own, lr=a.transfer_rate, betas=(0.9, 0.98), weight_decay=0)
        while tokens < a.transfer and time.time() < end:
            ids = data.take(step)[0]
            turn('transfer', optimizer, tokens / a.transfer, smollm2.transfer(model, ids), ids.numel())
        save(a.out, model, a, before, smooth)
    tokens, step, smooth = 0, 0, None
    keep = [int(n) for n in a.keep.split(',') if n]
    groups = [{'params': pairs, 'lr': a.rate}] + ([{'params': own, 'lr': a.own * a.rate}] if own else [])
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0)
    while time.time() < end and tokens < a.tokens:
        ids, at, weight, best, logp = data.take(step)
        logits = model.hidden(ids)[0, at - 1] @ model.token_embd.T
        loss = (kl(logits, best, logp) * weight).sum() / weight.sum()
        loss.backward()
        turn('distil', optimizer, max(tokens / a.tokens, (time.time() - begin) / (end - begin)), loss.item(), ids.numel())
        if keep and tokens >= keep[0]:
            save('%s-%dk' % (a.out, keep.pop(0) // 1000), model, a, before + tokens, smooth)
        if time.time() - saved > 60 * a.save_minutes:
            save(a.out, model, a, before + tokens, smooth)
            saved = time.time()
    if step:
        save(a.out, model, a, before + tokens, smooth)


if __name__ == '__main__':
    main()
