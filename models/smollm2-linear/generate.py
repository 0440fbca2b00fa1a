#!/usr/bin/env python3
"""Chats that the teacher writes, with what it thought of every token: the data of train.py and evaluate.py.

usage: generate.py MODEL.gguf OUT_DIR [--count 32] [--length 1536] [--seed 1] [--shard 32]

Users' turns come from templates; answers are sampled from the teacher's 24 best tokens. The first turn gives a name and a number, which
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


# Who talks in the training chats: none of NAMES, which evaluate.py asks for.
OTHERS = ('Alice Peter Maria Daniel Sofia Liam Emma Lucas Olivia Noah Anna David Laura Marco Elena Victor Clara Hugo Julia '
          'Felix Sarah Adam Lena Oscar Nina Simon Eva Martin Irene Paul Alma George Ruth Henry Mina Isaac Greta Samuel Lily '
          'Thomas Helen Ivan Amara Kofi Yuki Chen Raj Aisha Diego Fatima Pablo Ingrid Tariq Mei Ravi Zara Luis Freya Ahmed '
          'Grace Jack Sophie Leo Iris Max Ella Ben Ruby Sam Molly Tom Lucy Jake Amy Eric Kate Alan Jane Carl Rita Frank Betty '
          'Walter Doris Arthur Edith Harold Mabel Stanley Agnes Roger Joan Philip Nancy Kevin Donna Brian Carol').split()


class Chat:
    def __init__(self, rng, names=NAMES):
        self.rng, self.turns, self.names = rng, 0, names
        self.topics = rng.sample(TOPICS, len(TOPICS))

    def turn(self):
        self.turns += 1
        ask = self.rng.choice(ASKS).format(t=self.topics[self.turns % len(self.topics)])
        if self.turns == 1:
            ask = 'Hello! My name is %s and I own %s. ' % (self.rng.choice(self.names), self.rng.choice(THINGS)) + ask
        elif self.turns % 4 == 0:
            ask = self.rng.choice(RECALLS)
        return ask


class Cache(list):
    """Keys [B, kv, d, length] and values [B, kv, length, d] of all layers, filled one token at a time."""

    def __init__(self, model, batch, length):
        c, self.at = model.c, 0
        make = lambda *shape: torch.zeros(batch, c['kv'], *shape, dtype=model.dtype)
        super().__init__((make(c['d'], length), make(length, c['d'])) for _ in range(c['layers']))


def attend(model, cache, i, q, k, v):
    """Attention of one token per chat to all before it."""
    cos, sin = smollm2.rope(model.c, torch.tensor([cache.at]))
    q, k = smollm2.turn(q.float(), cos, sin).to(v.dtype), smollm2.turn(k.float(), cos, sin).to(v.dtype)
    keys, values = cache[i]
    keys[..., cache.at], values[:, :, cache.at:cache.at + 1] = k[:, :, 0], v
    q = q.unflatten(1, (model.c['kv'], -1)).squeeze(3)
    scores = q @ keys[..., :cache.at + 1] / model.c['d'] ** 0.5
    return (scores.float().softmax(-1).to(v.dtype) @ values[:, :, :cache.at + 1]).flatten(1, 2).unsqueeze(2)


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
    cache = Cache(model, len(chats), length)
    for t in range(length):
        if t:
            top, which = logits.topk(24)
            logp[:, t], best[:, t] = top - logits.logsumexp(-1, keepdim=True), which.int()
            drawn = torch.multinomial((top / temperature).softmax(-1), 1, generator=generator)
            sampled = which.gather(1, drawn)[:, 0]
        for b, chat in enumerate(chats):
            if queue[b]:
                ids[b, t] = queue[b].pop(0)
                continue
            ids[b, t], wrote[b, t] = sampled[b], True
            if int(sampled[b]) in (end, 0):
                queue[b] = tok.encode('\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' % chat.turn()).ids
        x = model.token_embd[ids[:, t:t + 1].long()].float()
        for i in range(model.c['layers']):
            x = model.after(i, x, attend(model, cache, i, *model.heads(i, model.norm(x, model.w(i, 'input_layernorm')))))
        logits = (model.norm(x, model.output_norm)[:, 0] @ model.token_embd.T).float()
        cache.at += 1
    return ids, wrote, best, logp


def options(count, length, shard):
    """The options that generate.py and texts.py share."""
    ap = argparse.ArgumentParser()
    ap.add_argument('gguf')
    ap.add_argument('out')
    ap.add_argument('--count', type=int, default=count, help='how many sequences')
    ap.add_argument('--length', type=int, default=length, help='tokens of the longest')
    ap.add_argument('--shard', type=int, default=shard, help='sequences of a file')
    ap.add_argument('--seed', type=int, default=1)
    return ap


class Shards:
    """The teacher, and the files of scored sequences that generate.py and texts.py write."""

    def __init__(self, kind, a):
        self.kind, self.a, self.begin, self.rng = kind, a, time.time(), random.Random(a.seed)
        torch.set_num_threads(1)
        self.model = smollm2.Student(a.gguf, dtype=smollm2.quick())
        self.tok = smollm2.tokenizer(self.model.fields)
        os.makedirs(a.out, exist_ok=True)

    def parts(self):
        """(first sequence, how many) of every file."""
        for at in range(0, self.a.count, self.a.shard):
            yield at, min(self.a.shard, self.a.count - at)

    def save(self, at, tensors):
        name = os.path.join(self.a.out, '%s-%d-%04d.safetensors' % (self.kind, self.a.seed, at))
        save_file(tensors, name + '.part')
        os.replace(name + '.part', name)  # train.py may be looking
        print('%d sequences, %.0f s' % (at + len(tensors['ids']), time.time() - self.begin), flush=True)


def main():
    ap = options(count=32, length=1536, shard=32)
    ap.add_argument('--temperature', type=float, default=0.8)
    a = ap.parse_args()
    out, generator = Shards('chats', a), torch.Generator().manual_seed(a.seed)
    for at, n in out.parts():
        chats = [Chat(out.rng, OTHERS) for _ in range(n)]
        ids, wrote, best, logp = write(out.model, out.tok, chats, a.length, generator, a.temperature)
        out.save(at, {'ids': ids, 'wrote': wrote.to(torch.uint8), 'best': best, 'logp': logp.half()})


if __name__ == '__main__':
    main()
