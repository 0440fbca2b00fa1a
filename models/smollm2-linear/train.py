#!/usr/bin/env python3
"""Distils SmolLM2 into a linearised form on a CPU: LoRA and the form's own parameters, on generate.py's chats.

usage: train.py MODEL.gguf DATA.safetensors OUT_DIR --form window|sinks|liger|lolcats [--init ADAPTER_DIR]
                [--window 128] [--sinks 4] [--minutes 60] [--rate 1.5e-3] [--until HH:MM]

The loss is the KL divergence to the teacher over its 24 best tokens and one bucket for the rest, on the tokens that the
teacher wrote. AdamW; the form's own parameters learn 4 times as fast as the LoRA pairs. Sequences are as long as the
data (1,000 to 2,000 tokens), so that there is something beyond the window. The adapter is saved every few minutes, with
the tokens seen so far; a file that generate.py still adds to is read again at every save. --form sinks is the control:
the same window and sinks and training, no linear state.
"""
import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import smollm2


def loss_of(logits, data, rows):
    """Mean KL of the teacher's buckets to the student's, over the tokens that the teacher wrote."""
    wrote = data['wrote'][rows].bool()
    b, t = wrote.nonzero(as_tuple=True)
    student = torch.log_softmax(logits[b, t - 1].float(), -1)
    best, teacher = data['best'][rows][b, t].long(), data['logp'][rows][b, t].float()
    picked = student.gather(1, best)
    rest = lambda logp: torch.log1p(-logp.exp().sum(-1).clamp(max=1 - 1e-6))
    own, other = rest(picked), rest(teacher)
    kl = (teacher.exp() * (teacher - picked)).sum(-1) + other.exp() * (other - own)
    return kl.mean(), len(b)


def save(out, model, a, tokens, loss):
    os.makedirs(out, exist_ok=True)
    save_file({n: v.contiguous() for n, v in model.adapter().items()}, os.path.join(out, 'adapter.safetensors'))
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
    ap.add_argument('--window', type=int, default=128)
    ap.add_argument('--sinks', type=int, default=4)
    ap.add_argument('--rank', type=int, default=8)
    ap.add_argument('--minutes', type=float, default=60)
    ap.add_argument('--until', help='stop at this time of day')
    ap.add_argument('--rate', type=float, default=1.5e-3)
    ap.add_argument('--save-minutes', type=float, default=5)
    ap.add_argument('--threads', type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = smollm2.Student(a.gguf, a.form, a.window, a.sinks, a.rank)
    if a.init:
        model.load_adapter(load_file(os.path.join(a.init, 'adapter.safetensors')))
    pairs = [p for n, p in model.extra.items() if 'lora' in n]
    own = [p for n, p in model.extra.items() if 'lora' not in n]
    groups = [{'params': pairs, 'lr': a.rate}] + ([{'params': own, 'lr': 4 * a.rate}] if own else [])
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0)
    begin = saved = time.time()
    end = begin + 60 * a.minutes
    if a.until:
        h, m = map(int, a.until.split(':'))
        now = time.localtime()
        end = min(end, begin + ((h - now.tm_hour) * 60 + m - now.tm_min) % 1440 * 60)
    data, tokens, step, smooth = load_file(a.data), 0, 0, None
    while time.time() < end:
        row = step % len(data['ids'])
        ids = data['ids'][row:row + 1].long()
        share = (time.time() - begin) / (end - begin)
        for group in optimizer.param_groups:  # warm up, then half a cosine
            group.setdefault('peak', group['lr'])
            group['lr'] = group['peak'] * min(1, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * share))
        loss, scored = loss_of(model(ids, remember=True), data, slice(row, row + 1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.extra.parameters(), 1.0)
        optimizer.step()
        step += 1
        tokens += ids.numel()
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        print('step %d, %d tokens, loss %.4f (%.4f), %.0f s' % (step, tokens, loss.item(), smooth, time.time() - begin),
              flush=True)
        if time.time() - saved > 60 * a.save_minutes:
            save(a.out, model, a, tokens, smooth)
            saved = time.time()
            try:
                data = load_file(a.data)
            except Exception as error:  # half written: the next time will do
                print('data not read again:', error, flush=True)
    if step:
        save(a.out, model, a, tokens, smooth)


if __name__ == '__main__':
    main()
