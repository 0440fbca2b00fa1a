#!/usr/bin/env python3
"""Chats that the teacher writes, with what it thought of every token: the data of train.py and evaluate.py.

usage: generate.py MODEL.gguf OUT.safetensors [--chats 32] [--length 1200] [--seed 1] [--batch 8]

Users' turns come from templates; answers are sampled from the teacher. The first turn gives a name and a number, which
some later turn asks for, so that long memory is worth something. Kept per token: its id, whether the teacher wrote it,
and the teacher's 24 best log probabilities (the rest is one bucket).
"""
import argparse
import os
import random
import time

import torch
from safetensors.torch import save_file

import smollm2

SYSTEM = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face'
NAMES = 'Ada Bruno Chidi Dora Emeka Farah Goran Hana Ines Jonas Kira Leila Mateo Nadia Omar Priya Quinn Rosa Sven Tara'.split()
THINGS = ('a violin,a red bicycle,an old map,a telescope,a wooden boat,a garden,a camera,a sourdough starter,'
          'a chess set,a parrot').split(',')
TOPICS = ('how bread rises,why the sky is blue,the moons of Jupiter,how a bicycle stays upright,volcanoes,'
          'the history of the printing press,photosynthesis,how to tie a bowline knot,the water cycle,honeybees,'
          'prime numbers,the French Revolution,how vaccines work,sorting algorithms,the planets,migration of birds,'
          'how to make pancakes,the immune system,tides,glaciers,recursion,the Silk Road,how a piano works,'
          'magnetism,earthquakes,the rules of chess,coral reefs,supply and demand,the alphabet,steam engines').split(',')
ASKS = ['Explain {t}.', 'Tell me more about {t}, please.', 'What should a child know about {t}?',
        'Write a short story about {t}.', 'Give me five facts about {t}.', 'Ask me a question about {t} and answer it.',
        'Why does {t} matter?', 'Write a poem about {t}.', 'Summarise what we know about {t} in a list.',
        'What is a common mistake people make about {t}?']
RECALLS = ['By the way, what is my name?', 'Do you remember what I own?', 'What did I tell you about myself at first?']


class Chat:
    def __init__(self, rng):
        self.rng, self.turns = rng, 0
        self.topics = rng.sample(TOPICS, len(TOPICS))

    def turn(self):
        self.turns += 1
        ask = self.rng.choice(ASKS).format(t=self.topics[self.turns % len(self.topics)])
        if self.turns == 1:
            ask = 'Hello! My name is %s and I own %s. ' % (self.rng.choice(NAMES), self.rng.choice(THINGS)) + ask
        elif self.turns % 4 == 0:
            ask = self.rng.choice(RECALLS)
        return ask


@torch.no_grad()
def write(model, tok, chats, length, generator, temperature):
    """Fills all chats to `length` tokens together, one token of each at a time."""
    start, end = tok.token_to_id('<|im_start|>'), tok.token_to_id('<|im_end|>')
    queue = []
    for chat in chats:
        text = '<|im_start|>system\n%s<|im_end|>\n' % SYSTEM
        queue.append(tok.encode(text + '<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' % chat.turn()).ids)
    ids = torch.zeros(len(chats), length, dtype=torch.int32)
    wrote = torch.zeros(len(chats), length, dtype=torch.bool)
    best, logp = torch.zeros(len(chats), length, 24, dtype=torch.int32), torch.zeros(len(chats), length, 24)
    past, logits = [None] * model.c['layers'], None
    for t in range(length):
        if t:
            p = torch.log_softmax(logits[:, -1], -1)
            logp[:, t], top = p.topk(24)
            best[:, t] = top.int()
            sampled = torch.multinomial((p / temperature).softmax(-1), 1, generator=generator)[:, 0]
        for b, chat in enumerate(chats):
            if queue[b]:
                ids[b, t] = queue[b].pop(0)
                continue
            ids[b, t], wrote[b, t] = sampled[b], True
            if int(sampled[b]) in (end, 0):
                queue[b] = tok.encode('\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' % chat.turn()).ids
        logits = model(ids[:, t:t + 1].long(), past)
    return ids, wrote, best, logp


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('gguf')
    ap.add_argument('out')
    ap.add_argument('--chats', type=int, default=32)
    ap.add_argument('--length', type=int, default=1200)
    ap.add_argument('--batch', type=int, default=8)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--temperature', type=float, default=0.8)
    a = ap.parse_args()
    torch.set_num_threads(1)
    model = smollm2.Student(a.gguf)
    tok = smollm2.tokenizer(model.fields)
    rng, generator = random.Random(a.seed), torch.Generator().manual_seed(a.seed)
    parts, begin = [], time.time()
    for first in range(0, a.chats, a.batch):
        chats = [Chat(rng) for _ in range(min(a.batch, a.chats - first))]
        parts.append(write(model, tok, chats, a.length, generator, a.temperature))
        whole = [torch.cat(p) for p in zip(*parts)]
        save_file({'ids': whole[0], 'wrote': whole[1].to(torch.uint8), 'best': whole[2],
                   'logp': whole[3].half()}, a.out + '.part')
        os.replace(a.out + '.part', a.out)
        print('%d chats, %d tokens, %.0f s' % (len(whole[0]), whole[0].numel(), time.time() - begin), flush=True)


if __name__ == '__main__':
    main()
