#!/usr/bin/env python3
"""Sequences for long memory, scored by the teacher: questions about facts told long before, passages to repeat, plain text.

usage: texts.py MODEL.gguf OUT_DIR TEXT... [--count 480] [--shortest 704] [--length 2048] [--seed 1]

TEXT: plain text files of a licence that allows it (README.md lists those of the adapter here); they are the plain sequences, the
passages to repeat, and what stands between a fact and its question. Names, facts and wording are not evaluate.py's.
Kept as generate.py does, with a weight per token instead of a mark: answers to recall count 2, a sample of other tokens 1.
"""
import torch

import generate
import smollm2

CITIES = ('Paris London Berlin Madrid Rome Vienna Lisbon Oslo Dublin Athens Warsaw Prague Cairo Tokyo Delhi Lima Boston '
          'Denver Toronto Sydney Moscow Istanbul Geneva Milan Naples Seattle Chicago Havana Kyoto Nairobi').split()
COLOURS = 'red blue green yellow purple orange black white brown pink grey silver gold turquoise'.split()
JOBS = ('a nurse,a baker,a teacher,a carpenter,a farmer,a lawyer,a pilot,a painter,a plumber,a gardener,a dentist,a sailor,'
        'a translator,a librarian,an engineer,an architect,an actor,a tailor,a waiter,a photographer').split(',')
FOODS = 'pizza soup rice apples cheese pasta chocolate bananas salad bread noodles mango cherries honey pancakes'.split()
PETS = 'dog cat horse rabbit parrot hamster turtle goat'.split()
# What is told, what is asked, what is answered; {o}: one of generate.OTHERS, {p}: another of them.
FACTS = [('My name is {o}.', ["What's my name?", 'Can you tell me my name?', 'Who am I?'], 'Your name is {o}.'),
         ('I am {o}.', ['What am I called?', 'Do you know my name?'], 'You are {o}.'),
         ('I live in {c}.', ['Where do I live?', 'Which city is my home?'], 'You live in {c}.'),
         ('My favourite colour is {l}.', ['What is my favourite colour?'], 'Your favourite colour is {l}.'),
         ('I work as {j}.', ['What is my job?', 'What do I work as?'], 'You work as {j}.'),
         ('I love to eat {f}.', ['What do I love to eat?'], 'You love to eat {f}.'),
         ('My {a} is called {p}.', ['What is my {a} called?', 'What is the name of my {a}?'], 'Your {a} is called {p}.'),
         ('My lucky number is {n}.', ['What is my lucky number?'], 'Your lucky number is {n}.'),
         ("My sister's name is {p}.", ["What is my sister's name?"], "Your sister's name is {p}."),
         ('My best friend is {p}.', ['Who is my best friend?'], 'Your best friend is {p}.'),
         ('The secret word is {s}.', ['What is the secret word?'], 'The secret word is {s}.'),
         ('{p} has lost the {s}.', ['What has {p} lost?'], '{p} has lost the {s}.'),
         ('{p} moved to {c}.', ['Where did {p} move to?'], '{p} moved to {c}.'),
         ('{p} likes {f}.', ['What does {p} like?'], '{p} likes {f}.')]
WORDS = ('lantern copper window river candle button engine marble feather anchor basket ladder mirror pencil hammer '
         'tunnel forest planet guitar needle saddle carpet bottle island').split()


def fact(rng, kind):
    word = dict(o=rng.choice(generate.OTHERS), p=rng.choice(generate.OTHERS), c=rng.choice(CITIES), l=rng.choice(COLOURS),
                j=rng.choice(JOBS), f=rng.choice(FOODS), a=rng.choice(PETS), n=rng.randrange(10, 1000), s=rng.choice(WORDS))
    told, asked, answer = FACTS[kind]
    return told.format(**word), [a.format(**word) for a in asked], answer.format(**word)


class Writer:
    """Token ids and their weights, built turn by turn; weight None: the sample's."""

    def __init__(self, tok):
        self.tok, self.ids, self.weights = tok, [], []

    def add(self, text, weight=None):
        ids = self.tok.encode(text).ids
        self.ids += ids
        self.weights += [weight] * len(ids)

    def turn(self, user, assistant, weight=None):
        self.add('\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' % user)
        self.add(assistant + '<|im_end|>', weight)

    def cut(self, length):
        self.ids, self.weights = self.ids[:length], self.weights[:length]


class Passages:
    def __init__(self, tok, files):
        self.ids = [tok.encode(open(f, encoding='utf-8').read()).ids for f in files]

    def take(self, rng, tokens):
        ids = rng.choice(self.ids)
        at = rng.randrange(max(1, len(ids) - tokens))
        return ids[at:at + tokens]


def recall(rng, tok, passages, length):
    w = Writer(tok)
    w.add('<|im_start|>system\n%s<|im_end|>' % generate.SYSTEM)
    kinds = rng.sample(range(2, len(FACTS)), rng.randrange(4, 10)) + [rng.randrange(2)]
    rng.shuffle(kinds)
    facts = [fact(rng, k) for k in kinds]
    if rng.random() < 0.5:
        w.turn('Hello! ' + ' '.join(f[0] for f in facts), 'Hello! How can I help you?')
    else:
        for f in facts:
            w.turn(f[0], 'Thank you for telling me.')
    ends = 16 + sum(len(tok.encode(f[1][0] + f[2]).ids) + 10 for f in facts)
    while length - ends - len(w.ids) > 40:  # one long text or several
        n = min(length - ends - len(w.ids) - 20, rng.randrange(60, 900))
        w.turn(rng.choice(['Here is a text.', 'Read this, please.', 'Some notes:']) + '\n' + tok.decode(passages.take(rng, n)),
               rng.choice(['Thank you.', 'I have read it.', 'All right.']))
    rng.shuffle(facts)
    for f in facts:
        w.turn(rng.choice(f[1]), f[2], 2.0)
    return w


def repeat(rng, tok, passages, length):
    w = Writer(tok)
    n = rng.randrange(60, 250)
    first = tok.decode(passages.take(rng, n))
    w.add('<|im_start|>system\n%s<|im_end|>' % generate.SYSTEM)
    w.turn('Remember this text:\n' + first, 'I will remember it.')
    w.turn('Here is another one.\n' + tok.decode(passages.take(rng, length - 2 * n - 90)), 'Thank you.')
    w.turn('Repeat the first text.', first, 2.0)
    return w


def plain(rng, tok, passages, length):
    w = Writer(tok)
    w.ids = passages.take(rng, length)
    w.weights = [None] * len(w.ids)
    return w


@torch.no_grad()
def score(model, rng, w, length, scored):
    """ids, weight, best and logp of one sequence, filled up to `length`: all answers to recall, and a sample of other tokens."""
    size = len(w.ids)
    others = [t for t in range(1, size) if w.weights[t] is None]
    kept = set(rng.sample(others, min(len(others), max(64, scored - size + len(others)))))
    ids, weight = torch.zeros(length, dtype=torch.int32), torch.zeros(length)
    best, logp = torch.zeros(length, 24, dtype=torch.int32), torch.zeros(length, 24, dtype=torch.half)
    ids[:size] = torch.tensor(w.ids)
    weight[:size] = torch.tensor([(1.0 if t in kept else 0.0) if x is None else x for t, x in enumerate(w.weights)])
    t = weight.nonzero()[:, 0]
    logits = (model.hidden(ids[None, :size].long())[0, t - 1] @ model.token_embd.T).float()
    top, which = logits.topk(24)
    best[t], logp[t] = which.int(), (top - logits.logsumexp(-1, keepdim=True)).half()
    return {'ids': ids, 'weight': weight, 'best': best, 'logp': logp}


def main():
    ap = generate.options(count=480, length=2048, shard=24)
    ap.add_argument('texts', nargs='+')
    ap.add_argument('--shortest', type=int, default=704)
    ap.add_argument('--scored', type=int, default=288, help='tokens with a weight in each sequence')
    a = ap.parse_args()
    out = generate.Shards('texts', a)
    passages = Passages(out.tok, a.texts)
    for at, n in out.parts():
        rows = []
        for _ in range(n):
            make, length = out.rng.choices([recall, repeat, plain], [6, 2, 2])[0], out.rng.randint(a.shortest, a.length)
            w = make(out.rng, out.tok, passages, length)
            w.cut(length)
            rows.append(score(out.model, out.rng, w, a.length, a.scored))
        out.save(at, {k: torch.stack([r[k] for r in rows]) for k in rows[0]})


if __name__ == '__main__':
    main()
