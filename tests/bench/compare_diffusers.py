#!/usr/bin/env python3
"""Linnet beside PyTorch: a SANA-0.6B step and a DC-AE decode of the same shapes, the same threads, in turn.

usage: compare_diffusers.py BENCH MODEL.lnt [--what denoise,decode_image] [--sizes 512,1024] [--threads 1,2] [--rounds 5]
           [--types f32,bf16] [--text 300] [--json OUT.json]

BENCH is linnet_image_bench; MODEL.lnt the converted folder of sana_random.py. Both sides are one process each for a
number of threads, with models loaded and warmed up; then one call of each in turn. PyTorch runs diffusers' modules with
random weights (time does not depend on them) in f32 and bf16. What is not installed is skipped aloud with exit code 0.
A type that takes five times as long as the peer's fastest (bf16 where the processor has no instructions for it) is said
so aloud and left out after its first call.
Absolute figures of shared machines move from minute to minute: read the ratios, medians of the rounds.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

SANA = dict(in_channels=32, out_channels=32, num_attention_heads=36, attention_head_dim=32, num_layers=28,
            num_cross_attention_heads=16, cross_attention_head_dim=72, cross_attention_dim=1152, caption_channels=2304,
            mlp_ratio=2.5, sample_size=32, patch_size=1)
DC_AE = dict(in_channels=3, latent_channels=32, attention_head_dim=32, encoder_block_types="ResBlock",
             encoder_block_out_channels=[32] * 6, encoder_layers_per_block=[1] * 6, encoder_qkv_multiscales=[[]] * 6,
             decoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
             decoder_block_out_channels=[128, 256, 512, 512, 1024, 1024], decoder_layers_per_block=[3] * 6,
             decoder_qkv_multiscales=[[], [], [], [5], [5], [5]], upsample_block_type="interpolate",
             downsample_block_type="Conv", decoder_norm_types="rms_norm", decoder_act_fns="silu")


def serve(threads, text):
    """Answers `denoise 512 bf16` and the like with the seconds it took and those of the processor."""
    import torch
    import diffusers
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads)
    made = {}

    def module(what, kind):
        if (what, kind) not in made:
            for key in list(made):  # one at a time: memory
                if key[0] != what:
                    del made[key]
            make = diffusers.SanaTransformer2DModel if what == 'denoise' else diffusers.AutoencoderDC
            made[what, kind] = make(**(SANA if what == 'denoise' else DC_AE)).eval().to(kind)
        return made[what, kind]

    for line in sys.stdin:
        what, size, name = line.split()
        kind = dict(f32=torch.float32, bf16=torch.bfloat16)[name]
        side = int(size) // 32
        model = module(what, kind)
        x = torch.randn(1, 32, side, side, dtype=kind)
        if what == 'denoise':
            call = dict(hidden_states=x, encoder_hidden_states=torch.randn(1, text, 2304, dtype=kind),
                        timestep=torch.full((1,), 500.0, dtype=kind), return_dict=False)
            run = lambda: model(**call)
        else:
            run = lambda: model.decode(x, return_dict=False)
        start, processor = time.perf_counter(), time.process_time()
        run()
        print(time.perf_counter() - start, time.process_time() - processor, flush=True)


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit('a side ended early at "%s"' % line)
        return [float(part) for part in answer.split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bench', nargs='?')
    parser.add_argument('model', nargs='?')
    parser.add_argument('--what', default='denoise,decode_image')
    parser.add_argument('--sizes', default='512,1024')
    parser.add_argument('--threads', default='1,2')
    parser.add_argument('--types', default='f32,bf16')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--text', type=int, default=300)
    parser.add_argument('--json')
    parser.add_argument('--serve', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.text)
    types = args.types.split(',')
    if any(importlib.util.find_spec(name) is None for name in ('torch', 'diffusers')):
        print('SKIPPED the peer: this Python has no torch and diffusers', file=sys.stderr)
        types = []
    rows = []
    print('%-13s %6s %8s %10s' % ('', 'size', 'threads', 'ours') +
          ''.join(' %10s %18s' % (t, 'ratio (worst)') for t in types))
    for threads in args.threads.split(','):
        ours = Side([args.bench, args.model, '--serve', '--threads', threads, '--text', str(args.text)])
        peer = Side([sys.executable, os.path.abspath(__file__), '--serve', threads, '--text', str(args.text)]) if types else None
        for what in args.what.split(','):
            for size in args.sizes.split(','):
                seconds = {name: [] for name in ['ours'] + types}
                for turn in range(args.rounds + 1):  # the first warms up
                    first = {}
                    for name in list(seconds):
                        side, line = (ours, '%s %s' % (what, size)) if name == 'ours' else (peer, '%s %s %s' % (what, size, name))
                        took = side.ask(line)
                        if turn > 0:
                            seconds[name].append(took)
                        elif name != 'ours':
                            first[name] = took[0]
                    for name, took in first.items():
                        if took > 5 * min(first.values()):
                            print('LEFT OUT %s: its first %s at %s px took %.1f s, where %.1f s is the fastest of the peer' %
                                  (name, what, size, took, min(first.values())), file=sys.stderr, flush=True)
                            types.remove(name)
                            del seconds[name]
                rows.append(dict(what=what, size=int(size), threads=int(threads), seconds=seconds))
                for clock, label in enumerate((what, '  processor')):  # what other programs take does not count there
                    own = [s[clock] for s in seconds['ours']]
                    text = '%-13s %6s %8s %8.3f s' % (label, size, threads, statistics.median(own))
                    for name in types:
                        other = [s[clock] for s in seconds[name]]
                        ratios = [b / a for a, b in zip(own, other)]
                        text += ' %8.3f s %9.2fx (%.2fx)' % (statistics.median(other), statistics.median(ratios), min(ratios))
                    print(text, flush=True)
                if args.json:
                    with open(args.json, 'w', encoding='utf-8') as f:
                        json.dump(rows, f, indent=1)
        ours.close()
        if peer:
            peer.close()


if __name__ == '__main__':
    main()
