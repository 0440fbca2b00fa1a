#!/usr/bin/env python3
"""Perplexity, KL divergence to the teacher and long-range recall of linearised forms, in PyTorch or through Linnet.

usage: evaluate.py MODEL.gguf EVAL.safetensors FORM... [--teacher FORM] [--linnet BINARY] [--chats 6]

FORM: full | sinks:WINDOW | sinks:WINDOW:ADAPTER | window:ADAPTER | liger:WINDOW | liger:WINDOW:ADAPTER | lolcats:ADAPTER
      | lnt:FILE:OPTIONS (a Linnet file, run by --linnet with the options, such as "--attention window --window 128")
EVAL comes from eval_chats.py, or is a shard of generate.py that was not trained on. Perplexity and KL are over the tokens the teacher
wrote, cumulative to 256, 512, 1,024 and 1,536 tokens. The probe tells a name, talks about other things for --far tokens, and asks
for the name: how often it is the best of 20, and the mean log probability of the right one.
"""
import argparse
import json
import os
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file

import generate
import smollm2

LENGTHS = (256, 512, 1024, 1536)
FILLER = ('Water boils at 100 degrees at sea level. ', 'A triangle has three sides. ', 'Bees live in hives. ',
          'The moon goes around the earth. ', 'Iron rusts in damp air. ', 'Bread is made of flour and water. ',
          'Rivers flow to the sea. ', 'A year has twelve months. ', 'Trees grow from seeds. ', 'Ice floats on water. ')


def probe(tok, name, tokens):
    text = '<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\nHello! My name is %s.<|im_end|>\n' \
           '<|im_start|>assistant\nHello %s! How can I help you today?<|im_end|>\n' % (generate.SYSTEM, name, name)
    ids, i = tok.encode(text).ids, 0
    start = len(ids)
    ids += tok.encode('<|im_start|>user\nHere are some facts. ').ids
    while len(ids) < start + tokens:
        ids += tok.encode(FILLER[i % len(FILLER)]).ids
        i += 1
    return ids + tok.encode('<|im_end|>\n<|im_start|>assistant\nThank you.<|im_end|>\n<|im_start|>user\nWhat is my name?'
                            '<|im_end|>\n<|im_start|>assistant\nYour name is').ids


class Runner:
    """FORM -> logits of ids [T]."""

    def __init__(self, spec, a):
        kind, *rest = spec.split(':', 2) if spec.startswith('lnt:') else spec.split(':')
        self.a, self.file = a, None
        if kind == 'lnt':
            self.file, self.options = rest[0], (rest[1] if len(rest) > 1 else '').split()
            return
        adapter = rest[-1] if rest and not rest[-1].isdigit() else None
        config = json.load(open(os.path.join(adapter, 'config.json'))) if adapter else {}
        window = int(rest[0]) if rest and rest[0].isdigit() else config.get('window', 128)
        self.model = smollm2.Student(a.gguf, kind, window, rank=8 if adapter else 0)
        if adapter:
            self.model.load_adapter(load_file(os.path.join(adapter, 'adapter.safetensors')))

    @torch.no_grad()
    def __call__(self, ids):
        if self.file is None:
            return self.model(torch.tensor([ids]))[0]
        with tempfile.TemporaryDirectory() as folder:
            i, o = os.path.join(folder, 'in.safetensors'), os.path.join(folder, 'out.safetensors')
            save_file({'input_ids': torch.tensor(ids, dtype=torch.int32)}, i)
            subprocess.run([self.a.linnet, 'run', self.file, '--inputs', i, '--outputs', o, '--threads', '1', *self.options], check=True,
                           stdout=subprocess.DEVNULL)
            return next(iter(load_file(o).values()))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('gguf')
    ap.add_argument('data')
    ap.add_argument('forms', nargs='+')
    ap.add_argument('--linnet', default='linnet')
    ap.add_argument('--teacher', default='full')
    ap.add_argument('--chats', type=int, default=6)
    ap.add_argument('--names', type=int, default=10)
    ap.add_argument('--far', default='300,1000')
    a = ap.parse_args()
    torch.set_num_threads(1)
    data = load_file(a.data)
    teacher = Runner(a.teacher, a)
    tok = smollm2.tokenizer(smollm2.read_gguf(a.gguf)[2])
    rows = range(min(a.chats, len(data['ids'])))
    truth = [torch.log_softmax(teacher(data['ids'][r, :LENGTHS[-1]].tolist()), -1).half() for r in rows]
    first = {n: tok.encode(' ' + n).ids[0] for n in generate.NAMES}
    for spec in a.forms:
        run = Runner(spec, a)
        nll, kl, count = [0.0] * 4, [0.0] * 4, [0] * 4
        for r in rows:
            ids = data['ids'][r, :LENGTHS[-1]].long()
            logp = torch.log_softmax(run(ids.tolist()).float(), -1)
            own = torch.nonzero(data['wrote'][r, :LENGTHS[-1]])[:, 0]
            t = truth[r].float()
            divergence = (t[own - 1].exp() * (t[own - 1] - logp[own - 1])).sum(-1)
            loss = -logp[own - 1, ids[own]]
            for n, length in enumerate(LENGTHS):
                near = own < length
                nll[n] += float(loss[near].sum())
                kl[n] += float(divergence[near].sum())
                count[n] += int(near.sum())
        names, recall = generate.NAMES[:a.names], []
        for far in map(int, a.far.split(',')):
            right, score = 0, 0.0
            for name in names:
                logp = torch.log_softmax(run(probe(tok, name, far))[-1].float(), -1)
                score += float(logp[first[name]]) / len(names)
                right += max(first, key=lambda n: float(logp[first[n]])) == name
            recall.append('%d of %d, %.2f' % (right, len(names), score))
        table = ' | '.join('%.2f (%.3f)' % (float(torch.tensor(nll[n] / count[n]).exp()), kl[n] / count[n])
                           for n in range(4))
        print('| %s | %s | %s |' % (spec, table, ' | '.join(recall)), flush=True)


if __name__ == '__main__':
    main()
