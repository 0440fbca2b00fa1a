#!/usr/bin/env python3
"""Chats for evaluate.py, written by the teacher through Linnet: quicker than generate.py, without its probabilities.

usage: eval_chats.py LINNET TEACHER.lnt MODEL.gguf OUT.safetensors [--chats 3] [--turns 9] [--length 1536] [--seed 100]
"""
import argparse
import json
import os
import random
import subprocess
import sys

import torch
from safetensors.torch import save_file

import generate
import smollm2


def main():
    ap = argparse.ArgumentParser()
    for name in ('linnet', 'lnt', 'gguf', 'out'):
        ap.add_argument(name)
    ap.add_argument('--chats', type=int, default=3)
    ap.add_argument('--turns', type=int, default=9)
    ap.add_argument('--length', type=int, default=1536)
    ap.add_argument('--seed', type=int, default=100)
    a = ap.parse_args()
    tok = smollm2.tokenizer(smollm2.read_gguf(a.gguf)[2])
    ids, wrote = torch.zeros(a.chats, a.length, dtype=torch.int32), torch.zeros(a.chats, a.length, dtype=torch.uint8)
    for c in range(a.chats):
        chat = generate.Chat(random.Random(a.seed + c))
        turns, answers, answer = [chat.turn() for _ in range(a.turns)], [], ''
        run = subprocess.run([a.linnet, 'chat', a.lnt, '--json', '--attention', 'full', '--context', '4096', '--temperature',
                              '0.8', '--seed', str(c), '--max-tokens', '260', '--threads', '1'], input='\n'.join(turns) + '\n',
                             capture_output=True, text=True, check=True)
        for event in map(json.loads, run.stdout.splitlines()):
            answer += event['text'] if event['event'] == 'token' else ''
            if event['event'] == 'done':
                answers.append(answer)
                answer = ''
        row, own = tok.encode('<|im_start|>system\n%s<|im_end|>\n' % generate.SYSTEM).ids, []
        own += [0] * len(row)
        for turn, answer in zip(turns, answers):
            for text, mark in (('<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' % turn, 0),
                               (answer + '<|im_end|>', 1), ('\n', 0)):
                part = tok.encode(text).ids
                row += part
                own += [mark] * len(part)
        if len(row) < a.length:
            sys.exit('chat %d has %d tokens, fewer than --length: ask for more --turns' % (c, len(row)))
        ids[c], wrote[c] = torch.tensor(row[:a.length]), torch.tensor(own[:a.length], dtype=torch.uint8)
        # After each, so that what is there stays there when a later one fails.
        save_file({'ids': ids[:c + 1].contiguous(), 'wrote': wrote[:c + 1].contiguous()}, a.out + '.part')
        os.replace(a.out + '.part', a.out)
        print('chat %d of %d' % (c + 1, a.chats), flush=True)


if __name__ == '__main__':
    main()
