#!/usr/bin/env python3
"""What Linnet promises about a real model, measured on SmolLM2-135M-Instruct.

usage: smollm2.py LINNET SmolLM2-135M-Instruct.Q4_1.gguf [check ...]

Checks (all without an argument), each printing its figures and "ok" or "FAILED":
  greedy   48 greedy tokens of 24 chats equal those of transformers in f32 on the same dequantised weights, wherever
           its two best logits are more than 0.01 apart; logits of the f32 file within 2e-3 of its
  kl       KL divergence of the imported q4a file from the f32 file, under 0.01 nats a token
  perplexity  of tests/bench/text/kjv.txt (public domain) in windows of 512 tokens: f16, q8, q4a (its own Q4_1 weights)
           and q4 (which keeps them) files within 0.1, 0.3, 0.3 and 6 % of f32's, and every matrix forced to q4 for
           the record; needs llama-cpp-python for the text's tokens
  threads  the same bits for one and two threads
  start    from the start of the process to the first token of an answer, page cache warm, under 150 ms
  memory   resident memory from the first to the 20,000th token of one conversation, less than 1 MiB apart; the model
           still answers sensibly then
  convert  peak memory of the conversion under 1 GiB plus the largest tensor

The reference answers are tests/golden/smollm2_greedy.json (tests/oracles/chat_smollm2.py). Needs numpy.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

TEXT = os.path.join(os.path.dirname(__file__), 'text', 'kjv.txt')
GOLDEN = os.path.join(os.path.dirname(__file__), '..', 'golden', 'smollm2_greedy.json')
FORCED = 'q4-forced'  # q4 would leave the file's Q4_1 matrices in q4a
failures = []


def verdict(name, good, text):
    print('%-8s %s: %s' % (name, 'ok' if good else 'FAILED', text), flush=True)
    if not good:
        failures.append(name)


def write_ids(path, ids):
    head = json.dumps({'input_ids': {'dtype': 'I32', 'shape': [len(ids)], 'data_offsets': [0, 4 * len(ids)]}}).encode()
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(head)) + head + np.asarray(ids, '<i4').tobytes())


def read_logits(path):
    with open(path, 'rb') as f:
        size = struct.unpack('<Q', f.read(8))[0]
        info = json.loads(f.read(size))['logits']
        f.seek(8 + size + info['data_offsets'][0])
        return np.frombuffer(f.read(), '<f4').reshape(info['shape'])


class Bench:
    def __init__(self, linnet, gguf, folder):
        self.linnet, self.gguf, self.folder = linnet, gguf, folder
        self.chats = json.load(open(GOLDEN, encoding='utf-8'))['chats']
        self.files = {}

    def model(self, quantize):
        if quantize not in self.files:
            path = os.path.join(self.folder, quantize + '.lnt')
            options = ['--quantize', quantize]
            if quantize == FORCED:
                options = ['--quantize', 'q4', '--keep', 'model.layers.*=q4']
            subprocess.run([self.linnet, 'convert', self.gguf, '-o', path, '--no-self-test', *options],
                           check=True, stderr=subprocess.DEVNULL)
            self.files[quantize] = path
        return self.files[quantize]

    def logits(self, quantize, ids, *options):
        x, y = os.path.join(self.folder, 'x.safetensors'), os.path.join(self.folder, 'y.safetensors')
        write_ids(x, ids)
        subprocess.run([self.linnet, 'run', self.model(quantize), '--inputs', x, '--outputs', y, *options], check=True)
        return read_logits(y)

    # The reference's own answer is fed, so that one different token does not change all that follow: the choice
    # at every step is compared.
    def greedy(self):
        for quantize in ('f32', 'keep'):
            steps = wrong = close = equal_chats = 0
            least_wrong_margin = 0.0
            for chat in self.chats:
                prompt, answer = chat['prompt_ids'], chat['greedy_ids']
                chosen = self.logits(quantize, prompt + answer[:-1])[len(prompt) - 1:].argmax(axis=1)
                differs = [m for a, b, m in zip(chosen, answer, chat['margins']) if a != b]
                steps += len(answer)
                close += sum(m <= 0.01 for m in chat['margins'])
                wrong += sum(m > 0.01 for m in differs)
                equal_chats += all(m <= 0.01 for m in differs)
                least_wrong_margin = max([least_wrong_margin] + differs)
            text = ('%s file: %d of %d chats equal; %d of %d greedy choices differ (%d steps have a margin of at most '
                    '0.01), largest margin at one that differs %.3f' %
                    (quantize, equal_chats, len(self.chats), wrong, steps, close, least_wrong_margin))
            if quantize == 'f32':
                verdict('greedy', equal_chats == len(self.chats), text)
            else:  # for the record: its activations are rounded to 8 bits
                print('         ' + text)
        errors = []
        for chat in self.chats:
            if 'last_prompt_logits' not in chat:
                continue
            last = self.logits('f32', chat['prompt_ids'])[-1]
            want = chat['last_prompt_logits']
            errors += [np.abs(last[want['top_ids']] - want['top_values']).max(),
                       np.abs(last[::97] - want['every_97th']).max()]
        worst = np.max(errors)  # NaN if one is, and no error at all raises
        verdict('greedy', worst < 2e-3, 'largest difference from the logits of PyTorch in f32: %.2e' % worst)

    def kl(self):
        def log_softmax(x):
            x = x.astype(np.float64)
            x = x - x.max(axis=1, keepdims=True)
            return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        total, tokens = 0.0, 0
        for chat in self.chats:
            ids = chat['prompt_ids'] + chat['greedy_ids']
            p, q = (log_softmax(self.logits(kind, ids)) for kind in ('f32', 'keep'))
            total += float((np.exp(p) * (p - q)).sum())
            tokens += len(ids)
        verdict('kl', total / tokens < 0.01, '%.5f nats a token over %d tokens of %d chats' %
                (total / tokens, tokens, len(self.chats)))

    def perplexity(self):
        try:
            import llama_cpp
        except ImportError:
            print('perplexity SKIPPED: llama-cpp-python is not installed')
            return
        vocabulary = llama_cpp.Llama(self.gguf, vocab_only=True, verbose=False)
        with open(TEXT, 'rb') as f:
            ids = vocabulary.tokenize(f.read(), add_bos=False)
        windows = [ids[i:i + 512] for i in range(0, len(ids) - 511, 512)]
        exact = None
        for quantize, most in (('f32', 0), ('f16', 0.1), ('q8', 0.3), ('q4a', 0.3), ('q4', 6), (FORCED, None)):
            loss = 0.0
            for window in windows:
                x = self.logits(quantize, window)[:-1].astype(np.float64)
                x -= x.max(axis=1, keepdims=True)
                loss += float((np.log(np.exp(x).sum(axis=1)) - x[np.arange(511), window[1:]]).sum())
            value = float(np.exp(loss / (511 * len(windows))))
            exact = exact or value
            change = 100 * (value / exact - 1)
            text = '%-4s %.4f, %+.3f %% (%d tokens' % (quantize, value, change, 511 * len(windows))
            if most is None:  # for the record: two roundings to different grids of 16 values
                print('           ' + text + ')')
            else:
                verdict('perplexity', abs(change) <= most, text + '; at most %g %%)' % most)

    def threads(self):
        ids = sum((chat['prompt_ids'] for chat in self.chats), [])[:700]
        one, two = (self.logits('keep', ids, '--threads', n, '--attention', 'window', '--window', '256')
                    for n in ('1', '2'))
        verdict('threads', bool((one.view('<u4') == two.view('<u4')).all()), '%d logits of %d tokens compared' %
                (one.size, len(ids)))

    def start(self):
        times = []
        for _ in range(12):
            begin = time.perf_counter()
            chat = subprocess.Popen([self.linnet, 'chat', self.model('keep'), '--prompt', 'What is a linnet?',
                                     '--temperature', '0', '--max-tokens', '4'], stdout=subprocess.PIPE)
            chat.stdout.read(1)
            times.append(time.perf_counter() - begin)
            chat.stdout.read()
            chat.wait()
        times = sorted(times[2:])
        verdict('start', times[len(times) // 2] < 0.15, '%.0f ms (median; best %.0f) from exec to the first character' %
                (1e3 * times[len(times) // 2], 1e3 * times[0]))

    def memory(self):
        filler = ('Here is a page of my diary. ' + 'The weather was fine and we walked along the river until noon. ' * 90)
        chat = subprocess.Popen([self.linnet, 'chat', self.model('keep'), '--json', '--temperature', '0',
                                 '--max-tokens', '40', '--threads', '1'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def resident():
            with open('/proc/%d/status' % chat.pid) as f:
                return next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmRSS'))

        def turn(text):
            chat.stdin.write(text + '\n')
            chat.stdin.flush()
            peak = 0
            while True:
                event = json.loads(chat.stdout.readline())
                peak = max(peak, resident())
                if event['event'] != 'token':
                    return event, peak
        event, first = turn('Hello.')
        peak, position = first, event['stats']['position']
        while position < 20000:
            event, now = turn(filler)
            peak, position = max(peak, now), event['stats']['position']
        event, now = turn('Thank you. Now another question: what is the capital of France?')
        chat.stdin.close()
        chat.wait()
        peak = max(peak, now)
        verdict('memory', peak - first < 1 << 20, '%.1f MiB after the first answer, %.2f MiB more at most until token %d' %
                (first / 2**20, (peak - first) / 2**20, event['stats']['position']))
        verdict('memory', 'Paris' in event['answer'], 'asked for the capital of France then: %r' % event['answer'])

    def convert(self):
        out = os.path.join(self.folder, 'measured.lnt')
        code = ('import resource,subprocess,sys; subprocess.run(sys.argv[1:],check=True); '
                'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024)')
        run = subprocess.run([sys.executable, '-c', code, self.linnet, 'convert', self.gguf, '-o', out],
                             check=True, capture_output=True, text=True)
        peak = int(run.stdout.split()[-1])
        largest = 49152 * 576 * 4
        verdict('convert', peak < (1 << 30) + largest, 'peak %.0f MiB with its self test: %s' %
                (peak / 2**20, run.stderr.strip().splitlines()[-1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('linnet')
    parser.add_argument('gguf')
    parser.add_argument('checks', nargs='*')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(args.linnet), args.gguf, folder)
        for check in args.checks or ('greedy', 'kl', 'perplexity', 'threads', 'start', 'memory', 'convert'):
            getattr(bench, check)()
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
