#!/usr/bin/env python3
"""Random-weight GGUF files of realistic shapes, for speed beside llama.cpp: no weights of these sizes need be fetched.

usage: random_gguf.py MODEL OUT.gguf [--type f16|q4_0|q8_0]

MODEL is one of llama-1b mamba2-370m mamba2-1.3b rwkv7-0.4b qwen35-0.8b. Needs the packages gguf and numpy; q4_0 and
q8_0 are quantised by llama.cpp (package llama-cpp-python), every matrix alike, so that both sides read the same bits.
"""
import argparse
import ctypes
import math
import os

import gguf
import numpy as np

rng = np.random.default_rng(0)
POOL = rng.standard_normal(1 << 23).astype(np.float32)


def random(*shape, std=0.02, dtype=np.float16):
    """Normal numbers, cut out of one pool: a billion draws would take minutes."""
    return np.resize(np.roll((POOL * std).astype(dtype), int(rng.integers(0, len(POOL)))), shape)


def constant(*shape, value=1.0):
    return np.full(shape, value, np.float32)


def uniform(low, high, *shape):
    return rng.uniform(low, high, shape).astype(np.float32)


class Model:
    def __init__(self, path, name, arch, vocabulary, context, width, layers, feed_forward):
        self.writer = gguf.GGUFWriter(path, arch)
        self.parameters = 0
        w = self.writer
        w.add_name(name)
        w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        w.add_context_length(context)
        w.add_embedding_length(width)
        w.add_block_count(layers)
        w.add_vocab_size(vocabulary)
        w.add_tokenizer_model('no_vocab')
        w.add_feed_forward_length(feed_forward)

    def add(self, name, array):
        self.writer.add_tensor(name, array)
        self.parameters += array.size

    def matrix(self, name, rows, columns, **more):
        self.add(name + '.weight', random(rows, columns, **more))

    def norm(self, name, width, bias=False):
        self.add(name + '.weight', constant(width))
        if bias:
            self.add(name + '.bias', constant(width, value=0))

    def feed_forward(self, block, width, inner):
        self.matrix(block + 'ffn_gate', inner, width)
        self.matrix(block + 'ffn_up', inner, width)
        self.matrix(block + 'ffn_down', width, inner)

    def finish(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def llama(path, name, width, layers, heads, kv_heads, head, inner, vocabulary):
    m = Model(path, name, 'llama', vocabulary, 131072, width, layers, inner)
    w = m.writer
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(500000.0)
    w.add_rope_dimension_count(head)
    m.matrix('token_embd', vocabulary, width)
    m.norm('output_norm', width)
    for i in range(layers):
        b = f'blk.{i}.'
        m.norm(b + 'attn_norm', width)
        m.matrix(b + 'attn_q', heads * head, width)
        m.matrix(b + 'attn_k', kv_heads * head, width)
        m.matrix(b + 'attn_v', kv_heads * head, width)
        m.matrix(b + 'attn_output', width, heads * head)
        m.norm(b + 'ffn_norm', width)
        m.feed_forward(b, width, inner)
    return m


def mamba2(path, name, width, layers, vocabulary, state=128, head=64, groups=1):
    m = Model(path, name, 'mamba2', vocabulary, 1 << 20, width, layers, 0)
    w = m.writer
    inner = 2 * width
    heads, convolved = inner // head, inner + 2 * groups * state
    w.add_head_count(0)
    w.add_ssm_conv_kernel(4)
    w.add_ssm_inner_size(inner)
    w.add_ssm_state_size(state)
    w.add_ssm_time_step_rank(heads)
    w.add_ssm_group_count(groups)
    w.add_layer_norm_rms_eps(1e-5)
    m.matrix('token_embd', vocabulary, width)
    m.norm('output_norm', width)
    for i in range(layers):
        b = f'blk.{i}.'
        m.norm(b + 'attn_norm', width)
        m.matrix(b + 'ssm_in', inner + convolved + heads, width)
        m.matrix(b + 'ssm_conv1d', convolved, 4, std=0.3, dtype=np.float32)
        m.add(b + 'ssm_conv1d.bias', constant(convolved, value=0))
        step = np.exp(uniform(math.log(1e-3), math.log(0.1), heads))
        m.add(b + 'ssm_dt.bias', (step + np.log(-np.expm1(-step))).astype(np.float32))
        m.add(b + 'ssm_a', -uniform(1, 16, heads, 1))
        m.add(b + 'ssm_d', constant(heads, 1))
        m.add(b + 'ssm_norm.weight', constant(groups, inner // groups))
        m.matrix(b + 'ssm_out', width, inner)
    return m


def rwkv7(path, name, width, layers, inner, vocabulary, ranks, head=64):
    m = Model(path, name, 'rwkv7', vocabulary, 1 << 20, width, layers, inner)
    w = m.writer
    w.add_layer_norm_eps(1e-5)
    w.add_wkv_head_size(head)
    w.add_decay_lora_rank(ranks['w'])
    w.add_iclr_lora_rank(ranks['a'])
    w.add_value_residual_mix_lora_rank(ranks['v'])
    w.add_gate_lora_rank(ranks['g'])
    w.add_head_count(0)
    m.matrix('token_embd', vocabulary, width)
    m.norm('token_embd_norm', width, True)
    m.norm('output_norm', width, True)
    m.matrix('output', vocabulary, width)
    for i in range(layers):
        b = f'blk.{i}.'
        for n in ('attn_norm', 'attn_norm_2', 'time_mix_ln'):
            m.norm(b + n, width, True)
        m.add(b + 'time_mix_w0.weight', uniform(-6, -1, width))
        m.add(b + 'time_mix_a0.weight', constant(width, value=0))
        m.add(b + 'time_mix_v0.weight', constant(width))
        for c, rank in ranks.items():
            rank = ranks['a'] if c == 'v' and i == 0 else rank
            m.matrix(b + f'time_mix_{c}1', rank, width, dtype=np.float32)
            m.matrix(b + f'time_mix_{c}2', width, rank, dtype=np.float32)
        m.add(b + 'time_mix_lerp_fused.weight', uniform(0, 1, 6, 1, 1, width))
        m.add(b + 'time_mix_k_k.weight', constant(width, value=0.85))
        m.add(b + 'time_mix_k_a.weight', constant(width))
        m.add(b + 'time_mix_r_k.weight', random(width, dtype=np.float32))
        for n in ('key', 'value', 'receptance', 'output'):
            m.matrix(b + 'time_mix_' + n, width, width)
        m.add(b + 'channel_mix_lerp_k.weight', uniform(0, 1, 1, 1, width))
        m.matrix(b + 'channel_mix_key', inner, width)
        m.matrix(b + 'channel_mix_value', width, inner)
    return m


def qwen35(path, name, width, layers, inner, vocabulary, heads, kv_heads, head, key_heads, value_heads, state):
    m = Model(path, name, 'qwen35', vocabulary, 262144, width, layers, inner)
    w = m.writer
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(head)
    w.add_value_length(head)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(1e7)
    w.add_rope_dimension_count(head // 4)
    w.add_rope_dimension_sections([11, 11, 10, 0])
    w.add_ssm_conv_kernel(4)
    w.add_ssm_state_size(state)
    w.add_ssm_group_count(key_heads)
    w.add_ssm_time_step_rank(value_heads)
    w.add_ssm_inner_size(state * value_heads)
    w.add_full_attention_interval(4)
    keys, values = key_heads * state, value_heads * state
    m.matrix('token_embd', vocabulary, width)
    m.norm('output_norm', width)
    for i in range(layers):
        b = f'blk.{i}.'
        m.norm(b + 'attn_norm', width)
        m.norm(b + 'post_attention_norm', width)
        if i % 4 == 3:
            m.matrix(b + 'attn_q', 2 * heads * head, width)
            m.matrix(b + 'attn_k', kv_heads * head, width)
            m.matrix(b + 'attn_v', kv_heads * head, width)
            m.matrix(b + 'attn_output', width, heads * head)
            m.norm(b + 'attn_q_norm', head)
            m.norm(b + 'attn_k_norm', head)
        else:
            m.matrix(b + 'attn_qkv', 2 * keys + values, width)
            m.matrix(b + 'attn_gate', values, width)
            m.matrix(b + 'ssm_conv1d', 2 * keys + values, 4, std=0.3, dtype=np.float32)
            m.add(b + 'ssm_dt.bias', uniform(-5, -2, value_heads))
            m.add(b + 'ssm_a', -uniform(1, 16, value_heads))
            m.matrix(b + 'ssm_beta', value_heads, width)
            m.matrix(b + 'ssm_alpha', value_heads, width)
            m.norm(b + 'ssm_norm', state)
            m.matrix(b + 'ssm_out', width, values)
        m.feed_forward(b, width, inner)
    return m


MODELS = {
    'llama-1b': lambda *a: llama(*a, 2048, 16, 32, 8, 64, 8192, 128256),
    'mamba2-370m': lambda *a: mamba2(*a, 1024, 48, 50288),
    'mamba2-1.3b': lambda *a: mamba2(*a, 2048, 48, 50288),
    'rwkv7-0.4b': lambda *a: rwkv7(*a, 1024, 24, 4096, 65536, {'w': 64, 'a': 64, 'v': 32, 'g': 128}),
    'qwen35-0.8b': lambda *a: qwen35(*a, 1024, 24, 3584, 248320, 8, 2, 256, 16, 16, 128),
}


def quantize(source, to, kind):
    import llama_cpp as lib
    lib.llama_backend_init()
    silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    params = lib.llama_model_quantize_default_params()
    params.ftype = {'q4_0': lib.LLAMA_FTYPE_MOSTLY_Q4_0, 'q8_0': lib.LLAMA_FTYPE_MOSTLY_Q8_0}[kind]
    params.pure = True
    if lib.llama_model_quantize(source.encode(), to.encode(), ctypes.byref(params)) != 0:
        raise SystemExit('llama.cpp cannot quantise ' + source)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', choices=MODELS)
    parser.add_argument('out')
    parser.add_argument('--type', choices=['f16', 'q4_0', 'q8_0'], default='f16')
    args = parser.parse_args()
    first = args.out if args.type == 'f16' else args.out + '.f16'
    model = MODELS[args.model](first, args.model)
    model.finish()
    if args.type != 'f16':
        quantize(first, args.out, args.type)
        os.remove(first)
    print('%s: %.1f million parameters, %.1f MB' % (args.out, model.parameters / 1e6, os.path.getsize(args.out) / 1e6))


if __name__ == '__main__':
    main()
