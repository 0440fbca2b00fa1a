#!/usr/bin/env python3
"""Writes a Hugging Face checkpoint of a recurrent family as a GGUF file, as llama.cpp's converter does (its conversion/
folder: mamba.py, rwkv.py, qwen.py, falcon_h1.py, granite.py, kimi_linear.py), and asks llama.cpp for its logits.

usage: gguf_recurrent.py [--f32] OUT_DIR CASE_DIR...      writes OUT_DIR/CASE.gguf
       gguf_recurrent.py --llama CASE_DIR FILE.gguf   compares llama.cpp (llama-cpp-python) with the case's reference

CASE_DIR as in language_transformers.py. Matrices keep the precision of the checkpoint (bf16 or f32), all else is f32;
--f32: everything is (llama.cpp rounds the other operand of a bf16 matrix too).
"""
import glob
import json
import os
import re
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import load_file


def load_case(case):
    folder = os.path.join(case, 'model')
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as f:
        config = json.load(f)
    tensors = {}
    for path in sorted(glob.glob(os.path.join(folder, '*.safetensors'))):
        tensors.update(load_file(path))
    return config, tensors


class Writer:
    f32 = False

    def __init__(self, path, architecture, config, layers):
        self.w = gguf.GGUFWriter(path, architecture)
        self.w.add_name(os.path.basename(path))
        self.w.add_context_length(config.get('max_position_embeddings', 1 << 20))
        self.w.add_embedding_length(config['hidden_size'])
        self.w.add_block_count(layers)
        self.w.add_vocab_size(config['vocab_size'])
        self.w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
        self.w.add_tokenizer_model('no_vocab')

    def tensor(self, name, value):
        """Matrices of experts are three-dimensional. What the converter keeps in f32 stays f32."""
        f32 = value.dim() < 2 or re.search(r'conv1d|ssm_a$|ssm_d$|norm|time_mix_(lerp|[wavg]\d|k_|r_)|_lerp_|gate_inp', name)
        if f32 or Writer.f32 or value.dtype == torch.float32:
            self.w.add_tensor(name, value.float().contiguous().numpy())
            return
        raw = value.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)
        self.w.add_tensor(name, raw.view(np.uint8), raw_shape=raw.view(np.uint8).shape,
                          raw_dtype=gguf.GGMLQuantizationType.BF16)

    def close(self):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()


def mamba_mixer(out, b, t, p, inner, groups):
    out(b + 'ssm_in.weight', t[p + 'in_proj.weight'])
    if p + 'in_proj.bias' in t:
        out(b + 'ssm_in.bias', t[p + 'in_proj.bias'])
    out(b + 'ssm_conv1d.weight', t[p + 'conv1d.weight'].squeeze())
    if p + 'conv1d.bias' in t:
        out(b + 'ssm_conv1d.bias', t[p + 'conv1d.bias'])
    out(b + 'ssm_dt.bias', t[p + 'dt_bias'])
    out(b + 'ssm_a', -torch.exp(t[p + 'A_log'].float()).reshape(-1, 1))
    out(b + 'ssm_d', t[p + 'D'].float().reshape(-1, 1))
    if p + 'norm.weight' in t:
        out(b + 'ssm_norm.weight', t[p + 'norm.weight'].reshape(groups, inner // groups))
    out(b + 'ssm_out.weight', t[p + 'out_proj.weight'])
    if p + 'out_proj.bias' in t:
        out(b + 'ssm_out.bias', t[p + 'out_proj.bias'])


def mamba2(path, config, t):
    out = Writer(path, 'mamba2', config, config['num_hidden_layers'])
    inner, groups = config['num_heads'] * config['head_dim'], config['n_groups']
    w = out.w
    w.add_feed_forward_length(0)
    w.add_head_count(0)
    w.add_ssm_conv_kernel(config['conv_kernel'])
    w.add_ssm_inner_size(inner)
    w.add_ssm_state_size(config['state_size'])
    w.add_ssm_time_step_rank(config['num_heads'])
    w.add_ssm_group_count(groups)
    w.add_layer_norm_rms_eps(config['layer_norm_epsilon'])
    put = out.tensor
    put('token_embd.weight', t['backbone.embeddings.weight'])
    put('output_norm.weight', t['backbone.norm_f.weight'])
    if 'lm_head.weight' in t:
        put('output.weight', t['lm_head.weight'])
    for i in range(config['num_hidden_layers']):
        p, b = 'backbone.layers.%d.' % i, 'blk.%d.' % i
        put(b + 'attn_norm.weight', t[p + 'norm.weight'])
        mamba_mixer(put, b, t, p + 'mixer.', inner, groups)
    out.close()


def rwkv7(path, config, t):
    layers, dim = config['num_hidden_layers'], config['head_dim']
    out = Writer(path, 'rwkv7', config, layers)
    w, put = out.w, out.tensor
    w.add_layer_norm_eps(config['norm_eps'])
    w.add_wkv_head_size(dim)
    rank = lambda name: t['model.layers.%d.attn.%s_lora.lora.0.weight' % (min(1, layers - 1), name)].shape[0]
    w.add_decay_lora_rank(rank('w'))
    w.add_iclr_lora_rank(rank('a'))
    w.add_value_residual_mix_lora_rank(rank('v'))
    w.add_gate_lora_rank(rank('g'))
    w.add_feed_forward_length(t['model.layers.0.ffn.key.weight'].shape[0])
    w.add_head_count(0)
    put('token_embd.weight', t['model.embeddings.weight'])
    put('output.weight', t['lm_head.weight'])
    both = lambda to, name: [put(to + '.' + x, t[name + '.' + x]) for x in ('weight', 'bias')]
    both('token_embd_norm', 'model.layers.0.pre_norm')
    both('output_norm', 'model.norm')
    for i in range(layers):
        p, b = 'model.layers.%d.' % i, 'blk.%d.' % i
        both(b + 'attn_norm', p + 'attn_norm')
        both(b + 'attn_norm_2', p + 'ffn_norm')
        both(b + 'time_mix_ln', p + 'attn.g_norm')
        for c in 'wavg':
            have = 'a' if c == 'v' and i == 0 else c  # llama.cpp wants something in the first layer
            lora = p + 'attn.%s_lora.lora.' % have
            if c != 'g':
                put(b + 'time_mix_%s0.weight' % c, t[lora + '2.bias'])
            put(b + 'time_mix_%s1.weight' % c, t[lora + '0.weight'])
            put(b + 'time_mix_%s2.weight' % c, t[lora + '2.weight'])
        mixes = torch.stack([t[p + 'attn.x_' + c].float().reshape(-1) for c in 'rwkvag'])
        put(b + 'time_mix_lerp_fused.weight', mixes.reshape(6, 1, 1, -1))
        put(b + 'time_mix_k_k.weight', t[p + 'attn.k_k'].reshape(-1))
        put(b + 'time_mix_k_a.weight', t[p + 'attn.k_a'].reshape(-1))
        put(b + 'time_mix_r_k.weight', t[p + 'attn.r_k'].flatten())
        for to, name in (('key', 'k'), ('value', 'v'), ('receptance', 'r'), ('output', 'o')):
            put(b + 'time_mix_%s.weight' % to, t[p + 'attn.%s_proj.weight' % name])
        put(b + 'channel_mix_lerp_k.weight', t[p + 'ffn.x_k'].reshape(-1))
        put(b + 'channel_mix_key.weight', t[p + 'ffn.key.weight'])
        put(b + 'channel_mix_value.weight', t[p + 'ffn.value.weight'])
    out.close()


def tiled(x, dim, groups, share, width):
    """Value heads that follow their key head -> all first ones, then all second ones, ..."""
    shape = list(x.shape)
    x = x.reshape(shape[:dim] + [groups, share, width] + shape[dim + 1:])
    return x.transpose(dim, dim + 1).reshape(shape)


def attention_keys(w, config, head_dim=None):
    w.add_head_count(config['num_attention_heads'])
    w.add_head_count_kv(config['num_key_value_heads'])
    if head_dim or 'head_dim' in config:
        w.add_key_length(head_dim or config['head_dim'])
        w.add_value_length(head_dim or config['head_dim'])
    w.add_layer_norm_rms_eps(config['rms_norm_eps'])


def qwen(path, config, t):
    prefix = 'model.'
    if 'text_config' in config:
        config, prefix = config['text_config'], 'model.language_model.'
    kind = config['model_type']
    moe = config.get('num_experts', 0) > 0
    architecture = 'qwen3next' if kind == 'qwen3_next' else 'qwen35moe' if moe else 'qwen35'
    layers = config['num_hidden_layers']
    out = Writer(path, architecture, config, layers)
    w, put = out.w, out.tensor
    attention_keys(w, config)
    rope = config.get('rope_parameters') or config
    w.add_rope_freq_base(float(rope['rope_theta']))
    w.add_rope_dimension_count(int(config['head_dim'] * rope.get('partial_rotary_factor', 0.25)))
    if kind != 'qwen3_next':
        w.add_rope_dimension_sections((list(rope['mrope_section']) + [0] * 4)[:4])
    groups, heads = config['linear_num_key_heads'], config['linear_num_value_heads']
    K, V, share = config['linear_key_head_dim'], config['linear_value_head_dim'], heads // groups
    w.add_ssm_conv_kernel(config['linear_conv_kernel_dim'])
    w.add_ssm_state_size(K)
    w.add_ssm_group_count(groups)
    w.add_ssm_time_step_rank(heads)
    w.add_ssm_inner_size(V * heads)
    w.add_full_attention_interval(config.get('full_attention_interval', 4))
    w.add_feed_forward_length(config['intermediate_size'])
    if moe:
        w.add_expert_count(config['num_experts'])
        w.add_expert_used_count(config['num_experts_per_tok'])
        w.add_expert_feed_forward_length(config['moe_intermediate_size'])
        w.add_expert_shared_feed_forward_length(config['shared_expert_intermediate_size'])
    one = lambda name: t[name].float() + 1
    reorder = kind != 'qwen3_next' and share > 1
    tile = lambda x, dim, width: tiled(x, dim, groups, share, width) if reorder else x
    tail = lambda x: torch.cat([x[:2 * groups * K], tile(x[2 * groups * K:], 0, V)])
    put('token_embd.weight', t[prefix + 'embed_tokens.weight'])
    put('output_norm.weight', one(prefix + 'norm.weight'))
    if 'lm_head.weight' in t:
        put('output.weight', t['lm_head.weight'])
    for i in range(layers):
        p, b = prefix + 'layers.%d.' % i, 'blk.%d.' % i
        put(b + 'attn_norm.weight', one(p + 'input_layernorm.weight'))
        put(b + 'post_attention_norm.weight', one(p + 'post_attention_layernorm.weight'))
        a, l = p + 'self_attn.', p + 'linear_attn.'
        if a + 'q_proj.weight' in t:
            for to, name in (('attn_q', 'q_proj'), ('attn_k', 'k_proj'), ('attn_v', 'v_proj'), ('attn_output', 'o_proj')):
                put(b + to + '.weight', t[a + name + '.weight'])
            put(b + 'attn_q_norm.weight', one(a + 'q_norm.weight'))
            put(b + 'attn_k_norm.weight', one(a + 'k_norm.weight'))
        else:
            if l + 'in_proj_qkvz.weight' in t:
                parts = t[l + 'in_proj_qkvz.weight'].reshape(groups, 2 * K + 2 * share * V, -1)
                q, k, v, z = parts.split([K, K, share * V, share * V], 1)
                flat = lambda x: x.reshape(-1, x.shape[-1])
                put(b + 'attn_qkv.weight', torch.cat([flat(q), flat(k), flat(v)]))
                put(b + 'attn_gate.weight', flat(z))
                put(b + 'ssm_ba.weight', t[l + 'in_proj_ba.weight'])
            else:
                put(b + 'attn_qkv.weight', tail(t[l + 'in_proj_qkv.weight']))
                put(b + 'attn_gate.weight', tile(t[l + 'in_proj_z.weight'], 0, V))
                put(b + 'ssm_alpha.weight', tile(t[l + 'in_proj_a.weight'], 0, 1))
                put(b + 'ssm_beta.weight', tile(t[l + 'in_proj_b.weight'], 0, 1))
            put(b + 'ssm_conv1d.weight', tail(t[l + 'conv1d.weight'].squeeze()))
            put(b + 'ssm_dt.bias', tile(t[l + 'dt_bias'], 0, 1))
            put(b + 'ssm_a', tile(-torch.exp(t[l + 'A_log'].float()), 0, 1))
            put(b + 'ssm_norm.weight', t[l + 'norm.weight'])
            put(b + 'ssm_out.weight', tile(t[l + 'out_proj.weight'], 1, V))
        m = p + 'mlp.'
        if m + 'gate.weight' not in t:
            for part in ('gate', 'up', 'down'):
                put(b + 'ffn_%s.weight' % part, t[m + '%s_proj.weight' % part])
            continue
        put(b + 'ffn_gate_inp.weight', t[m + 'gate.weight'])
        put(b + 'ffn_gate_inp_shexp.weight', t[m + 'shared_expert_gate.weight'].reshape(-1))
        for part in ('gate', 'up', 'down'):
            put(b + 'ffn_%s_shexp.weight' % part, t[m + 'shared_expert.%s_proj.weight' % part])
        if m + 'experts.gate_up_proj' in t:
            gate, up = t[m + 'experts.gate_up_proj'].chunk(2, 1)
            down = t[m + 'experts.down_proj']
        else:
            gate, up, down = (torch.stack([t[m + 'experts.%d.%s_proj.weight' % (e, part)]
                                           for e in range(config['num_experts'])]) for part in ('gate', 'up', 'down'))
        for part, value in (('gate', gate), ('up', up), ('down', down)):
            put(b + 'ffn_%s_exps.weight' % part, value)
    out.close()


def hybrid_keys(w, config, inner):
    w.add_ssm_conv_kernel(config['mamba_d_conv'])
    w.add_ssm_state_size(config['mamba_d_state'])
    w.add_ssm_group_count(config['mamba_n_groups'])
    w.add_ssm_inner_size(inner)
    w.add_ssm_time_step_rank(config['mamba_n_heads'])


def falcon_h1(path, config, t):
    layers, inner, state = config['num_hidden_layers'], config['mamba_d_ssm'], config['mamba_d_state']
    out = Writer(path, 'falcon-h1', config, layers)
    w, put = out.w, out.tensor
    attention_keys(w, config)
    hybrid_keys(w, config, inner)
    w.add_feed_forward_length(config['intermediate_size'])
    w.add_rope_freq_base(float(config['rope_theta']))
    scaled = lambda name, factor: t[name].float() * factor  # the converter multiplies in f32 as well
    into, key = config['attention_in_multiplier'], config['key_multiplier']
    put('token_embd.weight', scaled('model.embed_tokens.weight', config['embedding_multiplier']))
    put('output_norm.weight', t['model.final_layernorm.weight'])
    head = 'lm_head.weight' if 'lm_head.weight' in t else 'model.embed_tokens.weight'
    put('output.weight', scaled(head, config['lm_head_multiplier']))
    for i in range(layers):
        p, b = 'model.layers.%d.' % i, 'blk.%d.' % i
        put(b + 'attn_norm.weight', t[p + 'input_layernorm.weight'])
        put(b + 'ffn_norm', t[p + 'pre_ff_layernorm.weight'])  # so named in llama.cpp
        a = p + 'self_attn.'
        for to, name, factor in (('attn_q', 'q_proj', into), ('attn_k', 'k_proj', into * key),
                                 ('attn_v', 'v_proj', into), ('attn_output', 'o_proj', config['attention_out_multiplier'])):
            put(b + to + '.weight', scaled(a + name + '.weight', factor))
        mixer = {k: v for k, v in t.items() if k.startswith(p + 'mamba.')}
        m, groups = config['ssm_multipliers'], config['mamba_n_groups'] * state
        each = torch.cat([torch.full((n,), float(f)) for n, f in
                          ((inner, m[0]), (inner, m[1]), (groups, m[2]), (groups, m[3]), (config['mamba_n_heads'], m[4]))])
        mixer[p + 'mamba.in_proj.weight'] = (mixer[p + 'mamba.in_proj.weight'].float() * config['ssm_in_multiplier']
                                             * each[:, None])
        mixer[p + 'mamba.out_proj.weight'] = mixer[p + 'mamba.out_proj.weight'].float() * config['ssm_out_multiplier']
        mamba_mixer(put, b, mixer, p + 'mamba.', inner, config['mamba_n_groups'])
        f = p + 'feed_forward.'
        put(b + 'ffn_gate.weight', scaled(f + 'gate_proj.weight', config['mlp_multipliers'][0]))
        put(b + 'ffn_up.weight', t[f + 'up_proj.weight'])
        put(b + 'ffn_down.weight', scaled(f + 'down_proj.weight', config['mlp_multipliers'][1]))
    out.close()


def turned(x, heads):
    """Halves of each head -> neighbouring pairs."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).transpose(1, 2).reshape(x.shape)


def granite(path, config, t):
    layers = config['num_hidden_layers']
    inner = int(config['mamba_expand'] * config['hidden_size'])
    out = Writer(path, 'granitehybrid', config, layers)
    w, put = out.w, out.tensor
    softmax = [i for i, kind in enumerate(config['layer_types']) if kind == 'attention']
    w.add_head_count(config['num_attention_heads'])
    w.add_head_count_kv([config['num_key_value_heads'] if i in softmax else 0 for i in range(layers)])
    w.add_layer_norm_rms_eps(config['rms_norm_eps'])
    hybrid_keys(w, config, inner)
    experts = config.get('num_local_experts', 0)
    w.add_feed_forward_length(config['intermediate_size'] if experts else config['shared_intermediate_size'])
    w.add_rope_freq_base(float(config['rope_theta']))
    w.add_rope_dimension_count(config['hidden_size'] // config['num_attention_heads'])
    w.add_rope_scaling_finetuned(config['position_embedding_type'] == 'rope')
    w.add_attention_scale(config['attention_multiplier'])
    w.add_embedding_scale(config['embedding_multiplier'])
    w.add_residual_scale(config['residual_multiplier'])
    w.add_logit_scale(config['logits_scaling'])
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(config['num_experts_per_tok'])
        w.add_expert_shared_feed_forward_length(config['shared_intermediate_size'])
    put('token_embd.weight', t['model.embed_tokens.weight'])
    put('output_norm.weight', t['model.norm.weight'])
    if 'lm_head.weight' in t:
        put('output.weight', t['lm_head.weight'])
    for i in range(layers):
        p, b = 'model.layers.%d.' % i, 'blk.%d.' % i
        put(b + 'attn_norm.weight', t[p + 'input_layernorm.weight'])
        put(b + 'ffn_norm.weight', t[p + 'post_attention_layernorm.weight'])
        a = p + 'self_attn.'
        if i in softmax:
            put(b + 'attn_q.weight', turned(t[a + 'q_proj.weight'], config['num_attention_heads']))
            put(b + 'attn_k.weight', turned(t[a + 'k_proj.weight'], config['num_key_value_heads']))
            put(b + 'attn_v.weight', t[a + 'v_proj.weight'])
            put(b + 'attn_output.weight', t[a + 'o_proj.weight'])
        else:
            mamba_mixer(put, b, t, p + 'mamba.', inner, config['mamba_n_groups'])
        suffix = '_shexp' if experts else ''
        gate, up = t[p + 'shared_mlp.input_linear.weight'].chunk(2, 0)
        put(b + 'ffn_gate%s.weight' % suffix, gate)
        put(b + 'ffn_up%s.weight' % suffix, up)
        put(b + 'ffn_down%s.weight' % suffix, t[p + 'shared_mlp.output_linear.weight'])
        if experts:
            m = p + 'block_sparse_moe.'
            put(b + 'ffn_gate_inp.weight', t[m + 'router.layer.weight'])
            gate, up = t[m + 'input_linear.weight'].chunk(2, 1)
            put(b + 'ffn_gate_exps.weight', gate)
            put(b + 'ffn_up_exps.weight', up)
            put(b + 'ffn_down_exps.weight', t[m + 'output_linear.weight'])
    out.close()


def kimi(path, config, t):
    layers, linear = config['num_hidden_layers'], config['linear_attn_config']
    out = Writer(path, 'kimi-linear', config, layers)
    w, put = out.w, out.tensor
    rank, nope, turn, V = (config[k] for k in ('kv_lora_rank', 'qk_nope_head_dim', 'qk_rope_head_dim', 'v_head_dim'))
    heads = config['num_attention_heads']
    w.add_head_count(heads)
    w.add_head_count_kv([1 if i + 1 in linear['full_attn_layers'] else 0 for i in range(layers)])
    w.add_layer_norm_rms_eps(config['rms_norm_eps'])
    w.add_rope_freq_base(float(config['rope_theta']))
    w.add_feed_forward_length(config['intermediate_size'])
    w.add_ssm_conv_kernel(linear['short_conv_kernel_size'])
    w.add_kda_head_dim(linear['head_dim'])
    if config.get('q_lora_rank'):
        w.add_q_lora_rank(config['q_lora_rank'])
    w.add_kv_lora_rank(rank)
    w.add_rope_dimension_count(turn)
    w.add_key_length(rank + turn)
    w.add_value_length(rank)
    w.add_key_length_mla(nope + turn)
    w.add_value_length_mla(V)
    w.add_expert_count(config['num_experts'])
    w.add_expert_used_count(config['num_experts_per_token'])
    w.add_expert_feed_forward_length(config['moe_intermediate_size'])
    w.add_expert_shared_count(config['num_shared_experts'])
    w.add_leading_dense_block_count(config['first_k_dense_replace'])
    w.add_expert_weights_scale(config['routed_scaling_factor'])
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    put('token_embd.weight', t['model.embed_tokens.weight'])
    put('output_norm.weight', t['model.norm.weight'])
    put('output.weight', t['lm_head.weight'])
    for i in range(layers):
        p, b = 'model.layers.%d.' % i, 'blk.%d.' % i
        put(b + 'attn_norm.weight', t[p + 'input_layernorm.weight'])
        put(b + 'ffn_norm.weight', t[p + 'post_attention_layernorm.weight'])
        a = p + 'self_attn.'
        put(b + 'attn_output.weight', t[a + 'o_proj.weight'])
        if a + 'A_log' in t:
            for c in 'qkv':
                put(b + 'attn_%s.weight' % c, t[a + '%s_proj.weight' % c])
                conv = t[a + '%s_conv1d.weight' % c]
                put(b + 'ssm_conv1d_%s.weight' % c, conv.reshape(1, conv.shape[0], 1, conv.shape[-1]))
            for to, name in (('f_a', 'f_a_proj'), ('f_b', 'f_b_proj'), ('g_a', 'g_a_proj'), ('g_b', 'g_b_proj'),
                             ('beta', 'b_proj'), ('norm', 'o_norm')):
                put(b + 'ssm_%s.weight' % to, t[a + name + '.weight'])
            put(b + 'ssm_dt.bias', t[a + 'dt_bias'])
            put(b + 'ssm_a', -torch.exp(t[a + 'A_log'].float()))
        else:
            put(b + 'attn_q.weight', t[a + 'q_proj.weight'])
            put(b + 'attn_kv_a_mqa.weight', t[a + 'kv_a_proj_with_mqa.weight'])
            put(b + 'attn_kv_a_norm.weight', t[a + 'kv_a_layernorm.weight'])
            both = t[a + 'kv_b_proj.weight'].reshape(heads, nope + V, rank)
            put(b + 'attn_k_b.weight', both[:, :nope].transpose(1, 2))
            put(b + 'attn_v_b.weight', both[:, nope:])
        m = p + 'block_sparse_moe.'
        if m + 'gate.weight' not in t:
            for part in ('gate', 'up', 'down'):
                put(b + 'ffn_%s.weight' % part, t[p + 'mlp.%s_proj.weight' % part])
            continue
        put(b + 'ffn_gate_inp.weight', t[m + 'gate.weight'])
        put(b + 'exp_probs_b.bias', t[m + 'gate.e_score_correction_bias'])
        for part, name in (('gate', 'w1'), ('up', 'w3'), ('down', 'w2')):
            put(b + 'ffn_%s_shexp.weight' % part, t[m + 'shared_experts.%s_proj.weight' % part])
            put(b + 'ffn_%s_exps.weight' % part,
                torch.stack([t[m + 'experts.%d.%s.weight' % (e, name)] for e in range(config['num_experts'])]))
    out.close()


FAMILIES = {'mamba2': mamba2, 'rwkv7': rwkv7, 'qwen3_next': qwen, 'qwen3_5': qwen, 'qwen3_5_text': qwen,
            'qwen3_5_moe': qwen, 'qwen3_5_moe_text': qwen, 'falcon_h1': falcon_h1, 'granitemoehybrid': granite,
            'kimi_linear': kimi}


def compare_with_llama(case, path):
    import llama_cpp
    reference = load_file(os.path.join(case, 'reference.safetensors'))
    ids = reference['input_ids'].reshape(-1).tolist()
    logits = reference['logits'].reshape(-1, reference['logits'].shape[-1]).numpy()
    positions = reference.get('positions', torch.arange(len(ids))).tolist()
    model = llama_cpp.Llama(path, n_ctx=len(ids) + 8, n_batch=512, logits_all=True, verbose=bool(os.environ.get("V")), n_threads=1,
                            flash_attn=False)
    model.eval(ids)
    found = model.scores[positions, :logits.shape[1]]
    print('%-60s llama.cpp: max abs %.2e, spread %.2f, argmax equal %.3f' % (
        path, np.abs(found - logits).max(), logits.std(), (found.argmax(-1) == logits.argmax(-1)).mean()))


def main():
    if sys.argv[1] == '--llama':
        return compare_with_llama(sys.argv[2], sys.argv[3])
    args = [a for a in sys.argv[1:] if a != '--f32']
    Writer.f32 = len(args) < len(sys.argv) - 1
    os.makedirs(args[0], exist_ok=True)
    for case in args[1:]:
        config, tensors = load_case(case)
        name = os.path.basename(os.path.normpath(case))
        FAMILIES[config['model_type']](os.path.join(args[0], name + '.gguf'), config, tensors)


if __name__ == '__main__':
    main()
