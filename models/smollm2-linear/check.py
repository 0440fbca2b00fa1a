#!/usr/bin/env python3
"""Holds smollm2.py's mixer of the window form to its formulas, written token by token; or a converted file to smollm2.py.

usage: check.py MODEL.gguf ADAPTER_DIR                                 the window form's formulas
       check.py MODEL.gguf ADAPTER_DIR LINNET FILE.lnt EVAL [--tokens 1100]   logits of a chat; FILE made with --quantize f32
"""
import argparse
import json
import math
import os
import sys
import types

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import evaluate
import smollm2


def by_formulas(model):
    """Largest difference of a layer's mixer to the formulas of the adapter's config.json."""
    torch.manual_seed(0)
    T, W, S, layer, d = 300, model.window, model.sinks, 3, model.c['d']
    q, k, v = torch.randn(1, 9, T, d), torch.randn(1, 3, T, d), torch.randn(1, 3, T, d)
    got = model.mix(layer, q, k, v)[0]
    cos, sin = smollm2.rope(model.c, torch.arange(T))
    qr, kr = smollm2.turn(q, cos, sin)[0], smollm2.turn(k, cos, sin)[0]
    worst = 0.0
    for h in (0, 5, 8):
        n, state, z = h // 3, torch.zeros(d, d), torch.zeros(d)
        for i in range(T):
            j = i - W
            if j >= S:
                g = (F.logsigmoid(k[0, n, j] + model.x(layer, 'gate_bias')[n]) / 16).clamp_min(-2)
                f = torch.softmax(k[0, n, j] @ model.x(layer, 'feat_k')[n], -1)
                state, z = g.exp()[:, None] * state + f[:, None] * v[0, n, j], g.exp() * z + f
            seen = [j for j in range(i + 1) if j > i - W or j < S]
            scores = qr[h, i] @ kr[n, seen].T / math.sqrt(d)
            w = model.x(layer, 'lin_bias_c')[h] + model.x(layer, 'lin_gain_u')[h] @ q[0, h, i]
            top = torch.maximum(scores.max(), w)
            e, fq = (scores - top).exp(), torch.softmax(q[0, h, i] @ model.x(layer, 'feat_q')[h], -1)
            o = (e @ v[0, n, seen] + (w - top).exp() * (fq @ state)) / (e.sum() + (w - top).exp() * (fq @ z))
            worst = max(worst, float((o - got[h, i]).abs().max()))
    return worst


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('gguf')
    ap.add_argument('adapter')
    ap.add_argument('linnet', nargs='?')
    ap.add_argument('file', nargs='?')
    ap.add_argument('eval', nargs='?')
    ap.add_argument('--tokens', type=int, default=1100)
    a = ap.parse_args()
    torch.set_num_threads(1)
    with open(os.path.join(a.adapter, 'config.json')) as f:
        config = json.load(f)
    model = smollm2.Student(a.gguf, config['form'], config['window'])
    model.load_adapter(load_file(os.path.join(a.adapter, 'adapter.safetensors')))
    if not a.linnet:
        worst = by_formulas(model)
        print('largest difference %.1e' % worst)
        return worst > 1e-5
    ids = load_file(a.eval)['ids'][0, :a.tokens].tolist()
    ours = model(torch.tensor([ids]))[0]
    theirs = evaluate.Runner('lnt:' + a.file, types.SimpleNamespace(linnet=a.linnet))(ids)
    worst = float((ours - theirs).abs().max())
    same = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    print('largest difference %.1e of logits that spread over %.1f; same most likely token at %d of %d positions'
          % (worst, float(ours.std()), same, len(ids)))
    return worst > 1e-2


if __name__ == '__main__':
    sys.exit(main())
