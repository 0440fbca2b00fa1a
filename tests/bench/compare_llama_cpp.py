#!/usr/bin/env python3
"""Linnet beside llama.cpp: the same GGUF weights, the same threads, rounds of the two in turn.

usage: compare_llama_cpp.py LINNET MODEL.gguf... [--lnt FILE.lnt] [--threads 1,2] [--rounds 5] [--prompt-tokens 512]
           [--decode-tokens 64] [--depth 0,4096] [--bench-args "..."] [--convert-args "..."] [--json OUT.json]
           [--require-prefill X] [--require-decode X]

Each round is a fresh process of each side with a warm-up of its own. Ours: `linnet bench MODEL --json`; the peer:
llama.cpp through its low-level Python API (package llama-cpp-python), the prompt as one batch, then one token a call.
At --depth 0 decode goes on behind the prompt; --depth N decodes behind N tokens already in the context (not timed).
If `linnet bench` reports "decode_depth", the tokens in its context when decode began, the peer is given the same.
What is not installed is skipped aloud with exit code 0. Absolute figures of shared machines move from minute to
minute: read the ratios. "best" compares the fastest rounds, "median" is the median of the ratios round by round.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time


# ------------------------------------------------------------------------------------------ the peer, one process
def peer_round(path, threads, prompt_tokens, decode_tokens, decode_depth):
    """Prints one JSON line: tokens per second of a prompt in an empty context, and of decode behind decode_depth."""
    import ctypes
    import llama_cpp as lib
    lib.llama_backend_init()
    silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        raise SystemExit('llama.cpp cannot load ' + path)
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    params = lib.llama_context_default_params()
    params.n_ctx = max(decode_depth, prompt_tokens) + decode_tokens + 64
    params.n_batch = params.n_ubatch = max(prompt_tokens, 512)
    params.n_threads = params.n_threads_batch = threads
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise SystemExit('llama.cpp cannot make a context of %d tokens' % params.n_ctx)
    memory = lib.llama_get_memory(context)
    seed = [12345]

    def tokens(count):  # spread over the vocabulary, so that embedding rows are not all in cache
        for _ in range(count):
            seed[0] = (seed[0] * 1103515245 + 12345) & 0x7FFFFFFF
            yield seed[0] % vocab

    def feed(count):
        done = 0
        while done < count:
            n = min(count - done, params.n_batch)
            ids = (lib.llama_token * n)(*tokens(n))  # the batch holds only a pointer to it
            if lib.llama_decode(context, lib.llama_batch_get_one(ids, n)) != 0:
                raise SystemExit('llama_decode failed')
            done += n
        lib.llama_synchronize(context)

    feed(min(prompt_tokens, 64))  # warm-up: page in the weights, start the threads
    for _ in range(4):
        feed(1)
    lib.llama_memory_clear(memory, True)
    start = time.perf_counter()
    feed(prompt_tokens)
    prefill = prompt_tokens / (time.perf_counter() - start)
    if decode_depth != prompt_tokens:
        lib.llama_memory_clear(memory, True)
        feed(decode_depth)
    start = time.perf_counter()
    for _ in range(decode_tokens):
        feed(1)
    decode = decode_tokens / (time.perf_counter() - start)
    print(json.dumps({'prefill_tokens_per_second': prefill, 'decode_tokens_per_second': decode}))


# ---------------------------------------------------------------------------------------------------- the rounds
def last_json(text):
    """The JSON object that a command printed, alone or as the last of several lines."""
    start = text.find('{')
    while start >= 0:
        try:
            return json.loads(text[start:])
        except json.JSONDecodeError:
            start = text.find('\n{', start + 1)
    raise RuntimeError('no JSON in: ' + text[-400:])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError('%s\n    exit code %d: %s' % (shlex.join(command), done.returncode,
                                                      (done.stderr or done.stdout).strip()[-1000:]))
    return done.stdout


def compare(args, path, lnt, threads, depth):
    counts = ['--prompt-tokens', str(args.prompt_tokens), '--decode-tokens', str(args.decode_tokens)]
    shared = ['--threads', str(threads)] + counts
    ours_command = ([args.linnet, 'bench', lnt, '--json', '--repeats', '1'] + shared
                    + (['--depth', str(depth)] if depth else []) + shlex.split(args.bench_args))
    peer_command = [sys.executable, os.path.abspath(__file__), '--peer-round', path] + shared
    rows = {'ours': [], 'peer': []}
    for _ in range(args.rounds):
        rows['ours'].append(last_json(run(ours_command)))
        start = rows['ours'][-1].get('decode_depth', depth or args.prompt_tokens)
        rows['peer'].append(last_json(run(peer_command + ['--decode-depth', str(start)])))
    results = []
    for what in ('decode',) if depth else ('prefill', 'decode'):
        key = what + '_tokens_per_second'
        ours, peer = [r[key] for r in rows['ours']], [r[key] for r in rows['peer']]
        results.append({'model': os.path.basename(path), 'threads': threads, 'depth': depth, 'what': what,
                        'ours': ours, 'peer': peer, 'ratio_best': max(ours) / max(peer),
                        'ratio_median': statistics.median(a / b for a, b in zip(ours, peer)),
                        'ratio_min': min(a / b for a, b in zip(ours, peer))})
    return results


def show_head():
    print('%-38s %2s %6s %-8s %10s %10s %10s %10s %7s %7s %7s' % (
        'model', 't', 'depth', 'what', 'ours best', 'ours med.', 'peer best', 'peer med.', 'best', 'median', 'worst'),
        flush=True)


def show(results):
    for r in results:
        print('%-38s %2d %6d %-8s %10.1f %10.1f %10.1f %10.1f %6.2fx %6.2fx %6.2fx' % (
            r['model'][:38], r['threads'], r['depth'], r['what'], max(r['ours']), statistics.median(r['ours']),
            max(r['peer']), statistics.median(r['peer']), r['ratio_best'], r['ratio_median'], r['ratio_min']),
            flush=True)


def skip(reason):
    print('SKIPPED: ' + reason)
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(part) for part in text.split(',')]
    parser.add_argument('linnet')
    parser.add_argument('models', nargs='+', metavar='MODEL.gguf')
    parser.add_argument('--lnt', default='', help='a converted file (for one MODEL only); made when not given')
    parser.add_argument('--threads', type=numbers, default=[1, 2])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--prompt-tokens', type=int, default=512)
    parser.add_argument('--decode-tokens', type=int, default=64)
    parser.add_argument('--depth', type=numbers, default=[0])
    parser.add_argument('--bench-args', default='', help='more for `linnet bench`')
    parser.add_argument('--convert-args', default='', help='more for `linnet convert`')
    parser.add_argument('--json', default='')
    parser.add_argument('--require-prefill', type=float, default=0.0, help='least median ratio, else exit code 1')
    parser.add_argument('--require-decode', type=float, default=0.0)
    args = parser.parse_args()
    if importlib.util.find_spec('llama_cpp') is None:
        skip('the peer is not installed (pip install llama-cpp-python)')
    if not os.access(args.linnet, os.X_OK):
        skip('%s is not there or cannot be run (build the target linnet)' % args.linnet)
    missing = [m for m in args.models if not os.path.exists(m)]
    if missing:
        skip('no such model: ' + ', '.join(missing))
    if args.lnt and len(args.models) > 1:
        parser.error('--lnt goes with one MODEL')
    print('llama-cpp-python %s, %d processors, %d rounds in turn, prompt %d, decode %d' % (
        importlib.metadata.version('llama-cpp-python'), os.cpu_count(), args.rounds, args.prompt_tokens,
        args.decode_tokens), flush=True)
    print('tokens per second; ratios are ours / llama.cpp')
    show_head()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in args.models:
            lnt = args.lnt or os.path.join(scratch, 'model.lnt')
            if not args.lnt:
                if os.path.exists(lnt):
                    os.remove(lnt)
                run([args.linnet, 'convert', path, '-o', lnt] + shlex.split(args.convert_args))
            print('%s: GGUF %.1f MB, Linnet file %.1f MB' % (os.path.basename(path), os.path.getsize(path) / 1e6,
                                                            os.path.getsize(lnt) / 1e6), flush=True)
            for threads in args.threads:
                for depth in args.depth:
                    measured = compare(args, path, lnt, threads, depth)
                    show(measured)  # at once: an hour's run that is interrupted has shown what it measured
                    results += measured
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as f:
            json.dump(results, f, indent=1)
    least = {'prefill': args.require_prefill, 'decode': args.require_decode}
    slow = [r for r in results if r['ratio_median'] < least[r['what']]]
    for r in slow:
        print('TOO SLOW: %s %s, %d threads, depth %d: %.2fx, required %.2fx' % (
            r['model'], r['what'], r['threads'], r['depth'], r['ratio_median'], least[r['what']]))
    sys.exit(1 if slow else 0)


def peer_main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--peer-round', required=True)
    for name in ('--threads', '--prompt-tokens', '--decode-tokens', '--decode-depth'):
        parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()
    peer_round(args.peer_round, args.threads, args.prompt_tokens, args.decode_tokens, args.decode_depth)


if __name__ == '__main__':
    peer_main() if '--peer-round' in sys.argv else main()
