#!/usr/bin/env python3
"""Full-size recurrent models with random weights: converts each in q4 and q8 and runs a long conversation, to hold the
memory plan to the memory the system counts and the cost of a token to its depth.

usage: big_shapes.py BUILD_DIR WORK_DIR [--shape NAME]... [--quantize q4,q8] [--tokens 20000] [--marks 10] [--threads 1]
                     [--keep]

BUILD_DIR holds linnet and tests/bench/linnet_long_run (ninja linnet linnet_long_run). Needs numpy. A shape's checkpoint
takes up to 3 GB in WORK_DIR while it is converted. Prints a row for each shape and precision:
  resident/plan   resident bytes the run took, over what the plan says, at the last mark (all rows of the embedding were read)
  growth          resident bytes at the last mark over those at the second
  decode          tokens/s at the first and at the last depth, and their ratio
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

import numpy as np


def mamba2():
    d, layers, vocab, state, heads = 1024, 48, 50288, 128, 32
    inner = 2 * d
    config = {'model_type': 'mamba2', 'hidden_size': d, 'num_hidden_layers': layers, 'num_heads': heads, 'head_dim': 64,
              'state_size': state, 'n_groups': 1, 'expand': 2, 'conv_kernel': 4, 'use_conv_bias': True,
              'use_bias': False, 'layer_norm_epsilon': 1e-5, 'tie_word_embeddings': True, 'vocab_size': vocab}
    yield config
    yield 'backbone.embeddings.weight', (vocab, d)
    yield 'backbone.norm_f.weight', (d,)
    for i in range(layers):
        p = 'backbone.layers.%d.' % i
        yield p + 'norm.weight', (d,)
        p += 'mixer.'
        yield p + 'in_proj.weight', (2 * inner + 2 * state + heads, d)
        yield p + 'conv1d.weight', (inner + 2 * state, 1, 4)
        yield p + 'conv1d.bias', (inner + 2 * state,)
        for name in ('A_log', 'dt_bias', 'D'):
            yield p + name, (heads,)
        yield p + 'norm.weight', (inner,)
        yield p + 'out_proj.weight', (d, inner)


def rwkv7():
    d, layers, vocab, ff = 1024, 24, 65536, 4096
    ranks = {'w': 64, 'a': 64, 'v': 32, 'g': 128}
    config = {'model_type': 'rwkv7', 'hidden_size': d, 'num_hidden_layers': layers, 'head_dim': 64,
              'intermediate_size': ff, 'norm_eps': 1e-5, 'hidden_act': 'sqrelu', 'vocab_size': vocab,
              'tie_word_embeddings': False}
    yield config
    yield 'model.embeddings.weight', (vocab, d)
    yield 'lm_head.weight', (vocab, d)
    norms = ['model.norm', 'model.layers.0.pre_norm']
    for i in range(layers):
        p = 'model.layers.%d.' % i
        norms += [p + 'attn_norm', p + 'ffn_norm', p + 'attn.g_norm']
        for c in 'rwkvag':
            yield p + 'attn.x_' + c, (1, 1, d)
        for c in 'rkvo':
            yield p + 'attn.%s_proj.weight' % c, (d, d)
        for c, rank in ranks.items():
            if c == 'v' and i == 0:
                continue
            yield p + 'attn.%s_lora.lora.0.weight' % c, (rank, d)
            yield p + 'attn.%s_lora.lora.2.weight' % c, (d, rank)
            if c != 'g':
                yield p + 'attn.%s_lora.lora.2.bias' % c, (d,)
        yield p + 'attn.k_k', (d,)
        yield p + 'attn.k_a', (d,)
        yield p + 'attn.r_k', (d // 64, 64)
        yield p + 'ffn.x_k', (d,)
        yield p + 'ffn.key.weight', (ff, d)
        yield p + 'ffn.value.weight', (d, ff)
    for name in norms:
        yield name + '.weight', (d,)
        yield name + '.bias', (d,)


def qwen35():
    d, layers, vocab, ff, heads, kv, dim, kh, vh, s = 1024, 24, 248320, 3584, 8, 2, 256, 16, 16, 128
    config = {'model_type': 'qwen3_5_text', 'hidden_size': d, 'num_hidden_layers': layers, 'vocab_size': vocab,
              'intermediate_size': ff, 'num_attention_heads': heads, 'num_key_value_heads': kv, 'head_dim': dim,
              'linear_num_key_heads': kh, 'linear_num_value_heads': vh, 'linear_key_head_dim': s,
              'linear_value_head_dim': s, 'linear_conv_kernel_dim': 4, 'rms_norm_eps': 1e-6,
              'tie_word_embeddings': True, 'full_attention_interval': 4,
              'rope_parameters': {'rope_theta': 1e7, 'rope_type': 'default', 'partial_rotary_factor': 0.25}}
    yield config
    yield 'model.embed_tokens.weight', (vocab, d)
    yield 'model.norm.weight', (d,)
    for i in range(layers):
        p = 'model.layers.%d.' % i
        yield p + 'input_layernorm.weight', (d,)
        yield p + 'post_attention_layernorm.weight', (d,)
        for name, shape in (('gate', (ff, d)), ('up', (ff, d)), ('down', (d, ff))):
            yield p + 'mlp.%s_proj.weight' % name, shape
        if (i + 1) % 4 == 0:
            a = p + 'self_attn.'
            yield a + 'q_proj.weight', (2 * heads * dim, d)
            yield a + 'k_proj.weight', (kv * dim, d)
            yield a + 'v_proj.weight', (kv * dim, d)
            yield a + 'o_proj.weight', (d, heads * dim)
            yield a + 'q_norm.weight', (dim,)
            yield a + 'k_norm.weight', (dim,)
        else:
            l = p + 'linear_attn.'
            yield l + 'in_proj_qkv.weight', (2 * kh * s + vh * s, d)
            yield l + 'in_proj_z.weight', (vh * s, d)
            yield l + 'in_proj_a.weight', (vh, d)
            yield l + 'in_proj_b.weight', (vh, d)
            yield l + 'conv1d.weight', (2 * kh * s + vh * s, 1, 4)
            yield l + 'A_log', (vh,)
            yield l + 'dt_bias', (vh,)
            yield l + 'norm.weight', (s,)
            yield l + 'out_proj.weight', (d, vh * s)


def gla():
    d, layers, vocab, ff, heads = 2048, 24, 32000, 5632, 4
    config = {'model_type': 'gla', 'hidden_size': d, 'num_hidden_layers': layers, 'num_heads': heads, 'expand_k': 0.5,
              'expand_v': 1.0, 'intermediate_size': ff, 'vocab_size': vocab, 'norm_eps': 1e-6,
              'tie_word_embeddings': False}
    yield config
    yield 'model.embeddings.weight', (vocab, d)
    yield 'lm_head.weight', (vocab, d)
    yield 'model.norm.weight', (d,)
    for i in range(layers):
        p = 'model.layers.%d.' % i
        yield p + 'attn_norm.weight', (d,)
        yield p + 'mlp_norm.weight', (d,)
        for name, shape in (('gate', (ff, d)), ('up', (ff, d)), ('down', (d, ff))):
            yield p + 'mlp.%s_proj.weight' % name, shape
        a = p + 'attn.'
        for name, n in (('q', d // 2), ('k', d // 2), ('v', d), ('g', d), ('o', d)):
            yield a + name + '_proj.weight', (n, d)
        yield a + 'gk_proj.0.weight', (16, d)
        yield a + 'gk_proj.1.weight', (d // 2, 16)
        yield a + 'gk_proj.1.bias', (d // 2,)
        yield a + 'g_norm_swish_gate.weight', (d // heads,)


SHAPES = {'mamba2-370m': mamba2, 'rwkv7-0.4b': rwkv7, 'qwen3.5-0.8b': qwen35, 'gla-1.3b': gla}


def write_checkpoint(folder, shape):
    """f16 values from one pool of normal numbers: matrices 0.02, all else near 1 or small, so that states stay finite."""
    parts = list(SHAPES[shape]())
    config, tensors = parts[0], parts[1:]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'config.json'), 'w', encoding='utf-8') as f:
        json.dump(config, f)
    header, at = {}, 0
    for name, dims in tensors:
        size = 2 * int(np.prod(dims))
        header[name] = {'dtype': 'F16', 'shape': list(dims), 'data_offsets': [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    pool = (0.02 * np.random.default_rng(0).standard_normal(1 << 22)).astype(np.float16)
    ones = (np.float16(1) + pool[:1 << 16]).astype(np.float16)
    with open(os.path.join(folder, 'model.safetensors'), 'wb') as f:
        f.write(len(text).to_bytes(8, 'little'))
        f.write(text)
        for name, dims in tensors:
            left = int(np.prod(dims))
            source = ones if 'norm' in name and name.endswith('weight') else pool
            while left > 0:
                n = min(left, source.size)
                f.write(source[:n].tobytes())
                left -= n
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('build')
    parser.add_argument('work')
    parser.add_argument('--shape', action='append', choices=sorted(SHAPES))
    parser.add_argument('--quantize', default='q4,q8')
    parser.add_argument('--tokens', type=int, default=20000)
    parser.add_argument('--marks', type=int, default=10)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--keep', action='store_true', help='leave the converted files')
    args = parser.parse_args()
    linnet, run = os.path.join(args.build, 'linnet'), os.path.join(args.build, 'tests/bench/linnet_long_run')
    bad = 0
    print('%-14s %-4s %9s %14s %8s %26s' % ('shape', '', 'plan MB', 'resident/plan', 'growth', 'decode tokens/s'))
    for shape in args.shape or SHAPES:
        folder = os.path.join(args.work, shape)
        write_checkpoint(folder, shape)
        for kind in args.quantize.split(','):
            model = os.path.join(args.work, '%s.%s.lnt' % (shape, kind))
            subprocess.run([linnet, 'convert', folder, '-o', model, '--quantize', kind, '--no-self-test', '--force'],
                           check=True, stdout=subprocess.DEVNULL)
            lines = subprocess.run([run, model, str(args.tokens), str(args.marks), str(args.threads)], check=True,
                                   stdout=subprocess.PIPE, text=True).stdout.splitlines()
            marks = [json.loads(line) for line in lines]
            first, second, last = marks[0], marks[min(1, len(marks) - 1)], marks[-1]
            fits = abs(last['resident_over_plan'] - 1) <= 0.03
            flat = last['resident_bytes'] <= 1.005 * second['resident_bytes']
            bad += not fits or not flat
            print('%-14s %-4s %9.1f %14.4f %8.4f %9.1f %9.1f %6.3f%s' % (
                shape, kind, last['plan_bytes'] / 1e6, last['resident_over_plan'],
                last['resident_bytes'] / second['resident_bytes'], first['decode_tokens_per_second'],
                last['decode_tokens_per_second'], last['decode_tokens_per_second'] / first['decode_tokens_per_second'],
                '' if fits and flat else '  MEMORY DIFFERS'), flush=True)
            if not args.keep:
                os.remove(model)
        shutil.rmtree(folder)
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
