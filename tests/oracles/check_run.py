#!/usr/bin/env python3
"""Holds the linnet command to official outputs: convert, run, compare.

usage: check_run.py LINNET CASE_DIR... [--backend reference|cpu|vulkan]... [--chunks 1,7,64,whole] [--lengths 1,2,63,64,65]
                    [--convert-args "..."] [--run-args "..."] [--keep DIR]

CASE_DIR holds model/ and reference.safetensors (language_transformers.py writes such folders; tests/golden/language
has them). For every backend and chunk size the whole prompt with its greedy continuation is run in one fresh state:
the logits of the prompt are compared with the reference, and the argmax at the continuation with greedy_ids. Prompts
cut to --lengths are compared as well: attention is causal, so their logits are the reference's first rows.
Exit code: 0 all good, 1 a comparison failed, 2 a command failed.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file


def command(args, what):
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip()
        raise RuntimeError('%s: exit code %d: %s\n    %s' % (what, done.returncode, shlex.join(args), text[-2000:]))


def prompts(reference):
    """(label, ids [T], positions [n], alternatives of logits [n, vocab], greedy ids or none). A reference may have a
    second, longer prompt, and for its last positions two accepted answers (Liger: 64 or 65 keys in the window)."""
    ids = reference['input_ids'].reshape(-1)
    logits = reference['logits'].reshape(-1, reference['logits'].shape[-1])
    positions = reference.get('positions', np.arange(ids.size))
    assert positions.size == logits.shape[0], 'reference: positions and logits disagree'
    assert logits.size and np.isfinite(logits).all() and logits.any(), 'reference: logits are missing, zero or not finite'
    found = [('', ids, positions, [('', logits)], reference.get('greedy_ids'))]
    if 'long_input_ids' not in reference:
        return found
    long_ids = reference['long_input_ids'].reshape(-1)
    long_logits = reference['long_logits'].reshape(long_ids.size, -1)
    assert np.isfinite(long_logits).all() and long_logits.any(), 'reference: long_logits are zero or not finite'
    answers = [('', long_logits)]
    other = reference.get('long_logits_window64_from_pos64')
    if other is not None:
        answers.append((OTHER_WINDOW, np.concatenate([long_logits[:64], other.reshape(-1, other.shape[-1])])))
        if np.array_equal(long_ids[:ids.size], ids):
            found[0][3].append((OTHER_WINDOW, answers[1][1][positions]))
    return found + [('long ', long_ids, np.arange(long_ids.size), answers, None)]


OTHER_WINDOW = 'window 64'


class Runner:
    def __init__(self, linnet, model, scratch, backend, run_args):
        self.base = [linnet, 'run', model, '--method', 'forward', '--backend', backend] + run_args
        self.scratch = scratch

    def logits(self, ids, chunk):
        given = os.path.join(self.scratch, 'in.safetensors')
        taken = os.path.join(self.scratch, 'out.safetensors')
        save_file({'input_ids': ids.astype(np.int64)}, given)
        if os.path.exists(taken):
            os.remove(taken)
        args = self.base + ['--inputs', given, '--outputs', taken]
        command(args + (['--chunk', str(chunk)] if chunk else []), 'linnet run')
        out = load_file(taken)['logits']
        return out.reshape(ids.size, -1).astype(np.float64)


def compare(got, positions, answers):
    """(max abs error, error relative to the spread of the logits, share of equal argmax, which answer fits best)."""
    best = None
    for label, want in answers:
        keep = positions < got.shape[0]
        have, ref = got[positions[keep]], want[keep].astype(np.float64)
        assert have.shape == ref.shape, 'logits: expected %s, found %s' % (ref.shape, have.shape)
        assert have.size, 'logits: none of the positions is in the reference'
        error = np.abs(have - ref).max() if np.isfinite(have).all() else float('inf')
        same = float((have.argmax(-1) == ref.argmax(-1)).mean())
        row = (float(error), float(error / want.std()), same, label)
        best = row if best is None or row[0] < best[0] else best
    return best


def check(case, args, scratch):
    """Prints a line for each comparison and returns how many there were and how many failed."""
    name = os.path.basename(os.path.normpath(case))
    reference = load_file(os.path.join(case, 'reference.safetensors'))
    manifest = os.path.join(case, 'manifest.json')
    bound, source = None, 'manifest'
    if os.path.exists(manifest):
        with open(manifest, encoding='utf-8') as f:
            bound = json.load(f).get('tolerances', {}).get('logits_max_abs_f32')
    if bound is None:
        bound, source = 1e-4 * float(reference['logits'].std()), '1e-4 of the spread'
    model = os.path.join(args.keep or scratch, name + '.lnt')
    command([args.linnet, 'convert', os.path.join(case, 'model'), '-o', model, '--quantize', 'f32']
            + shlex.split(args.convert_args), 'linnet convert')
    failures = made = 0

    def report(label, result, greedy=''):
        nonlocal failures, made
        bad = not result[0] <= bound or 'DIFFERS' in greedy  # NaN is bad
        failures += bad
        made += 1
        print('%-28s %-34s max abs %.2e  relative %.2e  argmax equal %5.1f%%%s%s%s' % (
            name, label, result[0], result[1], 100 * result[2], greedy, '  (%s)' % result[3] if result[3] else '',
            '  FAILED (bound %.1e, %s)' % (bound, source) if bad else ''), flush=True)

    for backend in args.backend:
        runner = Runner(args.linnet, model, scratch, backend, shlex.split(args.run_args))
        for label, ids, positions, answers, greedy in prompts(reference):
            fed = ids if greedy is None else np.concatenate([ids, greedy[:-1]])
            for chunk in args.chunks:
                got = runner.logits(fed, chunk)
                result, verdict = compare(got[:ids.size], positions, answers), ''
                if greedy is not None and result[3] != OTHER_WINDOW:  # its greedy answer is the other window's
                    same = int((got[ids.size - 1:].argmax(-1) == greedy).sum())
                    verdict = '  greedy %d/%d%s' % (same, greedy.size, '' if same == greedy.size else ' DIFFERS')
                report('%s %schunk %s' % (backend, label, chunk or 'whole'), result, verdict)
            for length in args.lengths:
                if length < ids.size and (positions < length).any():
                    report('%s %slength %d' % (backend, label, length),
                           compare(runner.logits(ids[:length], 0), positions, answers))
    assert made, 'no comparison was asked for'
    return made, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [0 if part == 'whole' else int(part) for part in text.split(',') if part]
    parser.add_argument('linnet')
    parser.add_argument('cases', nargs='+')
    parser.add_argument('--backend', action='append')
    parser.add_argument('--chunks', type=numbers, default=[1, 7, 64, 0])
    parser.add_argument('--lengths', type=numbers, default=[1, 2, 63, 64, 65])
    parser.add_argument('--convert-args', default='')
    parser.add_argument('--run-args', default='', help='for instance "--attention full --context 512"')
    parser.add_argument('--keep', default='', help='folder for the converted files')
    args = parser.parse_args()
    args.backend = args.backend or ['reference', 'cpu']
    compared, failed, broken = 0, 0, 0
    for case in args.cases:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                made, bad = check(case, args, scratch)
                compared += made
                failed += bad
            except (RuntimeError, KeyError, OSError, AssertionError, ValueError) as error:
                print('%-28s BROKEN: %s' % (os.path.basename(os.path.normpath(case)), error), flush=True)
                broken += 1
    print('%d cases, %d of %d comparisons failed, %d cases broken' % (len(args.cases), failed, compared, broken))
    sys.exit(2 if broken else 1 if failed else 0)


if __name__ == '__main__':
    main()
