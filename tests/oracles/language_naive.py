#!/usr/bin/env python3
"""Variants of the recurrent families that no library at hand runs on a CPU, computed by naive_models.py in f64.

usage: language_naive.py OUT [--case NAME]... [--seed N] [--list]

naive_models.py agrees with the official goldens of GLA, RetNet, HGRN2, DeltaNet, Gated DeltaNet, KDA, RWKV-7, Liger and
LoLCATs to 2e-5, the noise of those goldens; these cases go on from there to other sizes and options. What a case uses
beyond that agreement is our own reading of the published code and is said in its description.
"""
import os
import sys
import types

import torch
from safetensors.torch import save_file

import common
import make_case
import naive_models

CASES = {}
CONFIRMED = ('gla', 'retnet', 'hgrn2', 'delta_net', 'gated_deltanet', 'kda', 'rwkv7', 'liger_gla', 'lolcats')
script, compute = 'language_naive.py', 'f64 (CPU), one token after the other'


def case(name, what, model_type, architecture, tokens=70, window=64, **config):
    base = {'vocab_size': 320, 'hidden_size': 48, 'num_hidden_layers': 2, 'intermediate_size': 64,
            'hidden_act': 'swish', 'norm_eps': 1e-6, 'tie_word_embeddings': True, 'bos_token_id': 0,
            'eos_token_id': 2, 'max_position_embeddings': 2048, 'attn': None, 'torch_dtype': 'bfloat16',
            'architectures': [architecture], 'model_type': model_type}
    if model_type == 'window_linear_llama':
        base['window'] = window
    CASES[name] = {'what': what, 'tokens': tokens, 'dtype': 'bfloat16', 'window': window,
                   'config': {**base, **config}}


def attention(*layers, **more):
    return {'layers': list(layers), 'num_heads': 4, 'num_kv_heads': 2, 'qkv_bias': False, 'window_size': None,
            'rope_theta': 10000.0, **more}


GLA = {'num_heads': 4, 'num_kv_heads': None, 'expand_k': 0.5, 'expand_v': 1.0, 'feature_map': None,
       'use_short_conv': False, 'conv_size': 4, 'use_output_gate': True, 'clamp_min': None, 'use_gk': True,
       'use_gv': False, 'elementwise_affine': True}
case('naive_gla_options', 'GLA with short convolutions, two key heads for four, clamp_min, and the gate and up rows of the '
     'MLP in one matrix as checkpoints before 2025-02 have them. 257 tokens.', 'gla', 'GLAForCausalLM', tokens=257,
     **{**GLA, 'use_short_conv': True, 'num_kv_heads': 2, 'clamp_min': -0.05}, **{'legacy_mlp': True})
case('naive_simple_gla', 'Simple GLA: one decay a head, logsigmoid / 16. Tensor names are our reading.', 'simple_gla',
     'SimpleGLAForCausalLM', **{**GLA, 'expand_k': 1.0})
case('naive_retnet_hybrid', 'RetNet, 3 heads, with a softmax layer.', 'retnet', 'RetNetForCausalLM',
     **{**GLA, 'num_heads': 3, 'expand_k': 1.0, 'expand_v': 2.0, 'attn': attention(1)})
case('naive_hgrn2_plain', 'HGRN2 without lower bounds, 6 heads of 8.', 'hgrn2', 'HGRN2ForCausalLM',
     num_heads=None, expand_ratio=8, use_lower_bound=False, use_short_conv=False)
DELTA = {'num_heads': 3, 'expand_k': 1.0, 'expand_v': 1.0, 'use_gate': False, 'use_short_conv': True, 'conv_size': 4,
         'use_beta': True, 'use_output_norm': True, 'qk_norm': 'l2', 'qk_activation': 'silu',
         'allow_neg_eigval': False}
case('naive_delta_net_window', 'DeltaNet with sliding-window attention (16 keys) in every other layer.', 'delta_net',
     'DeltaNetForCausalLM', **{**DELTA, 'num_hidden_layers': 4, 'hidden_size': 32, 'num_heads': 2,
                               'attn': attention(1, 3, window_size=16)})
case('naive_delta_net_global', 'DeltaNet, value width 1.5 times the key width, output gate, two layers of global '
     'attention, 257 tokens.', 'delta_net', 'DeltaNetForCausalLM', tokens=257,
     **{**DELTA, 'num_hidden_layers': 4, 'hidden_size': 32, 'num_heads': 2, 'expand_v': 1.5, 'use_gate': True,
        'attn': attention(1, 3)})
GATED = {'num_heads': 2, 'head_dim': 12, 'expand_v': 2.0, 'use_gate': True, 'use_short_conv': True, 'conv_size': 4,
         'allow_neg_eigval': False}
case('naive_gated_deltanet_groups', 'Gated DeltaNet, two value heads a key head, beta up to 2, one windowed attention '
     'layer.', 'gated_deltanet', 'GatedDeltaNetForCausalLM',
     **{**GATED, 'num_v_heads': 4, 'expand_v': 1.0, 'allow_neg_eigval': True, 'num_hidden_layers': 3,
        'attn': attention(1, window_size=24)})
case('naive_gated_deltanet_nogate', 'Gated DeltaNet without an output gate, 257 tokens.', 'gated_deltanet',
     'GatedDeltaNetForCausalLM', tokens=257, **{**GATED, 'use_gate': False})
case('naive_kda_bounded', 'KDA with the bounded gate, lower_bound * sigmoid(exp(A_log) (f + dt_bias)), value width twice '
     'the key width, 257 tokens.', 'kda', 'KDAForCausalLM', tokens=257,
     **{**GATED, 'num_heads': 3, 'num_v_heads': None, 'safe_gate': True, 'lower_bound': -5.0})
case('naive_rwkv7_other', 'RWKV-7, 3 heads of 16, other low-rank widths, 257 tokens.', 'rwkv7', 'RWKV7ForCausalLM',
     tokens=257, head_dim=16, num_heads=None, hidden_ratio=2.0, intermediate_size=None, hidden_act='sqrelu',
     norm_eps=1e-5, norm_bias=True, norm_first=True, decay_low_rank_dim=8, gate_low_rank_dim=12, a_low_rank_dim=10,
     v_low_rank_dim=6, value_dim=[48, 48], fuse_norm=False)
MOM = {**GATED, 'expand_v': 1.0, 'num_memories': 3, 'topk': 2, 'shared_mem': True, 'single_kv_proj': False,
       'mom_backend': 'gated_deltanet', 'use_output_gate': True}
case('naive_mom', 'Mixture of memories: 3 memories of which 2 take a token, and a shared one; convolution history for each '
     'memory. Our reading throughout.', 'mom', 'MomForCausalLM', **MOM)
case('naive_mom_single', 'Mixture of memories, one key/value projection for 4 memories, one taken, none shared, 257 '
     'tokens. Our reading throughout.', 'mom', 'MomForCausalLM', tokens=257,
     **{**MOM, 'num_memories': 4, 'topk': 1, 'shared_mem': False, 'single_kv_proj': True})
LLAMA = {'num_attention_heads': 3, 'num_key_value_heads': 1, 'head_dim': 16, 'rms_norm_eps': 1e-5,
         'rope_theta': 10000.0, 'rope_scaling': None, 'hidden_act': 'silu', 'attention_bias': False, 'mlp_bias': False}
case('naive_liger_long', 'Liger-GLA, one key head for three, 257 tokens, window of 64 keys with the token itself.',
     'liger_gla', 'LigerGLAForCausalLM', tokens=257, **LLAMA)
case('naive_lolcats_long', 'LoLCATs (Linearization names), feature dimension 24, one key head for three, 257 tokens.',
     'lolcats', 'LolcatsModelForCausalLM', tokens=257, feature_dim=24, **LLAMA)
case('naive_liger_gsa', 'Liger-GSA: gated slots, k pooled into 6 slots a head of 16; 65 keys in the window, as before '
     'transformers 4.55. 130 tokens. Our reading of the slots.', 'liger_gsa', 'LigerGSAForCausalLM', tokens=130, window=65,
     **{**LLAMA, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'pool_size': 6, 'transformers_version': '4.47.1'})
case('naive_liger_hgrn2', 'Liger-HGRN2, one key head for three, 64 keys in the window, 130 tokens.', 'liger_hgrn2',
     'LigerHGRN2ForCausalLM', tokens=130, **LLAMA)
case('naive_liger_qwen2', 'Liger on Qwen2.5: biases of q, k and v, no head_dim in the config. 130 tokens.',
     'liger_qwen2_gla', 'LigerQwen2GLAForCausalLM', tokens=130,
     **{k: v for k, v in LLAMA.items() if k not in ('head_dim', 'attention_bias', 'mlp_bias')})
case('naive_window_linear', 'Window of 20, 3 sinks and a gated state under one normaliser (models/smollm2-linear), four query '
     'heads on two key heads, 130 tokens. Our own form.', 'window_linear_llama', 'LlamaForCausalLM', tokens=130,
     **{**LLAMA, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 12, 'window': 20, 'sinks': 3,
        'gate_divisor': 16, 'gate_minimum': -0.06})
LINEAR = {'num_heads': 4, 'num_kv_heads': 2, 'expand_k': 1.0, 'expand_v': 1.0, 'tie_feature_map_qk': False,
          'norm_q': False, 'norm_k': False, 'norm_feature_map': False, 'elementwise_affine': True}
case('naive_linear_attn_hybrid', 'Linear attention with full attention in between (Linear-Llama3, LASP-2H), feature maps '
     'that are products of two linear layers.', 'linear_attn', 'LinearAttentionForCausalLM',
     **{**LINEAR, 'feature_map': 'elementwise_product', 'num_hidden_layers': 3, 'attn': attention(1)})
case('naive_linear_attn_hedgehog', 'Linear attention, one trained hedgehog map for q and k, normalised.', 'linear_attn',
     'LinearAttentionForCausalLM', **{**LINEAR, 'feature_map': 'hedgehog', 'tie_feature_map_qk': True,
                                      'norm_feature_map': True, 'num_kv_heads': 4, 'expand_v': 0.5})
case('naive_linear_attn_sums', 'Linear attention, trained relu maps (t2r), q and k divided by their sums.',
     'linear_attn', 'LinearAttentionForCausalLM',
     **{**LINEAR, 'feature_map': 't2r', 'norm_q': True, 'norm_k': True})


# ------------------------------------------------------------------------------------------- shapes of the tensors
def shapes(c):
    """{name: shape} of a checkpoint with this config."""
    h, out = c['hidden_size'], {}
    llama = 'num_attention_heads' in c
    out['model.%s.weight' % ('embed_tokens' if llama else 'embeddings')] = (c['vocab_size'], h)
    for i in range(c['num_hidden_layers']):
        p = 'model.layers.%d.' % i
        norms = (('input_layernorm', 'post_attention_layernorm') if llama else
                 ('attn_norm', 'ffn_norm') if c['model_type'] == 'rwkv7' else ('attn_norm', 'mlp_norm'))
        if c['model_type'] == 'rwkv7':
            inner = int(h * c['hidden_ratio'])
            norms += ('pre_norm',) if i == 0 else ()
            out.update({p + 'ffn.key.weight': (inner, h), p + 'ffn.value.weight': (h, inner), p + 'ffn.x_k': (h,)})
            out.update({p + n + '.bias': (h,) for n in norms})
        else:
            ff = c['intermediate_size']
            out[p + 'mlp.gate_proj.weight'] = (2 * ff if c.get('legacy_mlp') else ff, h)
            if not c.get('legacy_mlp'):
                out[p + 'mlp.up_proj.weight'] = (ff, h)
            out[p + 'mlp.down_proj.weight'] = (h, ff)
        out.update({p + n + '.weight': (h,) for n in norms})
        hybrid = c.get('attn') or {}
        if i in hybrid.get('layers', ()):
            kv = h // hybrid['num_heads'] * hybrid['num_kv_heads']
            mixer = {'q_proj.weight': (h, h), 'k_proj.weight': (kv, h), 'v_proj.weight': (kv, h),
                     'o_proj.weight': (h, h)}
        else:
            mixer = MIXER_SHAPES[c['model_type']](c, h, i)
        out.update({p + ('self_attn.' if llama else 'attn.') + n: s for n, s in mixer.items()})
    if c['model_type'] == 'hgrn2' and c['use_lower_bound']:
        out['model.lower_bounds'] = (c['num_hidden_layers'], h)
    out['model.norm.weight'] = (h,)
    if c['model_type'] == 'rwkv7':
        out['model.norm.bias'] = (h,)
    if not c['tie_word_embeddings']:
        out['lm_head.weight'] = (c['vocab_size'], h)
    return out


def projections(c, h, q, k, v, conv):
    out = {'q_proj.weight': (q, h), 'k_proj.weight': (k, h), 'v_proj.weight': (v, h)}
    if conv:
        out.update({n + '_conv1d.weight': (d, 1, c['conv_size']) for n, d in (('q', q), ('k', k), ('v', v))})
    return out


def gla_shapes(c, h, i):
    q, v, groups = int(h * c['expand_k']), int(h * c['expand_v']), c['num_heads'] // (c['num_kv_heads'] or c['num_heads'])
    out = projections(c, h, q, q // groups, v // groups, c['use_short_conv'])
    out.update({'g_proj.weight': (v, h), 'g_norm_swish_gate.weight': (v // c['num_heads'],), 'o_proj.weight': (h, v)})
    if c['model_type'] == 'gla':
        out.update({'gk_proj.0.weight': (16, h), 'gk_proj.1.weight': (q // groups, 16),
                    'gk_proj.1.bias': (q // groups,)})
    if c['model_type'] == 'simple_gla':
        out.update({'gk_proj.weight': (c['num_heads'], h), 'gk_proj.bias': (c['num_heads'],)})
    return out


def hgrn2_shapes(c, h, i):
    return {**{n + '_proj.weight': (h, h) for n in 'qfio'}, 'g_norm.weight': (h,)}


def delta_shapes(c, h, i):
    q, v, heads = int(h * c['expand_k']), int(h * c['expand_v']), c['num_heads']
    out = {**projections(c, h, q, q, v, True), 'b_proj.weight': (heads, h), 'o_norm.weight': (v // heads,),
           'o_proj.weight': (h, v)}
    return {**out, 'g_proj.weight': (v, h)} if c['use_gate'] else out


def gated_shapes(c, h, i):
    heads, v_heads = c['num_heads'], c.get('num_v_heads') or c['num_heads']
    k, d = c['head_dim'], int(c['head_dim'] * c['expand_v'])
    out = {**projections(c, h, heads * k, heads * k, v_heads * d, True), 'b_proj.weight': (v_heads, h),
           'A_log': (v_heads,), 'o_norm.weight': (d,), 'o_proj.weight': (h, v_heads * d)}
    if c['model_type'] == 'kda':
        out.update({'f_proj.0.weight': (d, h), 'f_proj.1.weight': (v_heads * k, d), 'dt_bias': (v_heads * k,),
                    'g_proj.0.weight': (d, h), 'g_proj.1.weight': (v_heads * d, d), 'g_proj.1.bias': (v_heads * d,)})
        return out
    out.update({'a_proj.weight': (v_heads, h), 'dt_bias': (v_heads,)})
    if c['use_gate']:
        out['g_proj.weight'] = (v_heads * d, h)
    if c['model_type'] == 'mom':
        sizes = {'k': heads * k, 'v': heads * d, 'a': heads, 'b': heads}
        for n in sizes:
            del out[n + '_proj.weight']
        if not c['single_kv_proj']:
            out.update({'%s_proj.%d.weight' % (n, m): (s, h) for n, s in sizes.items()
                        for m in range(c['num_memories'])})
        if c['single_kv_proj'] or c['shared_mem']:
            out.update({'shared_%s.weight' % n: (s, h) for n, s in sizes.items()})
        out['gate.weight'] = (c['num_memories'], h)
    return out


def rwkv7_shapes(c, h, i):
    out = {n + '_proj.weight': (h, h) for n in 'rkvo'}
    out.update({'x_' + n: (1, 1, h) for n in 'rwkvag'})
    for n, rank in (('w', 'decay'), ('a', 'a'), ('g', 'gate')) + ((('v', 'v'),) if i else ()):
        rank = c[rank + '_low_rank_dim']
        out.update({n + '_lora.lora.0.weight': (rank, h), n + '_lora.lora.2.weight': (h, rank)})
        if n != 'g':
            out[n + '_lora.lora.2.bias'] = (h,)
    out.update({'k_k': (h,), 'k_a': (h,), 'r_k': (h // c['head_dim'], c['head_dim']), 'g_norm.weight': (h,),
                'g_norm.bias': (h,)})
    return out


def linear_shapes(c, h, i):
    k, v, heads = int(h * c['expand_k']), int(h * c['expand_v']), c['num_heads']
    groups, d = heads // (c['num_kv_heads'] or heads), k // heads
    out = {**projections(c, h, k, k // groups, v // groups, False), 'norm.weight': (v // heads,), 'o_proj.weight': (h, v)}
    layers = {'elementwise_product': ('layer1', 'layer2'), 'hedgehog': ('layer',), 't2r': ('layer',)}
    for n in 'q' if c['tie_feature_map_qk'] else 'qk':
        for layer in layers.get(c['feature_map'], ()):
            out['feature_map_%s.%s.weight' % (n, layer)] = (d, d)
            if c['feature_map'] != 't2r':
                out['feature_map_%s.%s.bias' % (n, layer)] = (d,)
    return out


def llama_shapes(c, h, i):
    heads, kv = c['num_attention_heads'], c['num_key_value_heads']
    d = c.get('head_dim') or h // heads
    out = {'q_proj.weight': (heads * d, h), 'k_proj.weight': (kv * d, h), 'v_proj.weight': (kv * d, h),
           'o_proj.weight': (h, heads * d)}
    if c['model_type'] == 'window_linear_llama':
        out.update({'feature_q': (heads, d, d), 'feature_k': (kv, d, d), 'gate_bias': (kv, d), 'linear_bias': (heads,),
                    'linear_gain': (heads, d)})
    if c['model_type'] == 'liger_qwen2_gla':
        out.update({n + '_proj.bias': out[n + '_proj.weight'][:1] for n in 'qkv'})
    if c['model_type'] == 'lolcats':
        out.update({'feature_map_%s.mlp.linears.%d.weight' % (n, j): (c['feature_dim'], d)
                    for n in 'qk' for j in range(heads)})
        out['window_factors'] = (1, heads, 1, 1)
    return out


MIXER_SHAPES = {'gla': gla_shapes, 'simple_gla': gla_shapes, 'retnet': gla_shapes, 'hgrn2': hgrn2_shapes,
                'delta_net': delta_shapes, 'gated_deltanet': gated_shapes, 'kda': gated_shapes, 'mom': gated_shapes,
                'rwkv7': rwkv7_shapes, 'liger_gla': llama_shapes, 'lolcats': llama_shapes,
                'liger_gsa': llama_shapes, 'liger_hgrn2': llama_shapes, 'liger_qwen2_gla': llama_shapes,
                'window_linear_llama': llama_shapes, 'linear_attn': linear_shapes}


def value(name, shape, seed, config):
    leaf = name.split('.')[-1]
    g = common.generator(name, seed)
    if leaf.startswith('x_'):
        return torch.rand(shape, generator=g)
    if leaf in ('k_k', 'k_a'):
        return 0.9 + 0.3 * torch.randn(shape, generator=g)
    if leaf == 'lower_bounds':
        return torch.randn(shape, generator=g)
    if leaf in ('gate_bias', 'linear_gain'):
        return torch.randn(shape, generator=g)
    if leaf == 'linear_bias':
        return 2 + torch.randn(shape, generator=g)
    if leaf in ('feature_q', 'feature_k'):
        return 0.7 * torch.randn(shape, generator=g)
    if leaf == 'window_factors':
        return -1 + torch.randn(shape, generator=g)
    if 'feature_map' in name:
        return 0.5 * torch.randn(shape, generator=g)
    return common.random_tensor(name, shape, seed, tied=config['tie_word_embeddings'])


# -------------------------------------------------------------------------------------- what make_case.py asks for
class Module:
    """naive_models.NaiveModel with the few methods of a torch model that common.py uses."""

    def __init__(self, folder, window, dtype=torch.float64):
        config, tensors = naive_models.load_folder(folder)
        self.naive = naive_models.NaiveModel(config, tensors, dtype, window)

    def __call__(self, input_ids, use_cache):
        return types.SimpleNamespace(logits=self.naive.logits(input_ids[0])[None])

    def named_parameters(self):
        return list(self.naive.w.items())


def build(case, seed, folder):
    config = dict(case['config'])
    tensors = {name: value(name, shape, seed, config).to(torch.bfloat16) for name, shape in shapes(config).items()}
    save_file(tensors, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
    config.pop('legacy_mlp', None)  # shows in the shapes alone
    common.write_json(os.path.join(folder, 'config.json'), config)
    common.save_tokenizer(folder)
    return Module(folder, case['window'])


def noise(model, ids, logits, case):
    """The same formulas in f32 against f64."""
    single = naive_models.NaiveModel(model.naive.c, model.naive.w, torch.float32, case['window'])
    return float((single.logits(ids[0]).double() - logits[0]).abs().max())


def router_gap(model, ids, case):
    model.naive.gaps = []
    model.naive.logits(ids[0])
    return min(model.naive.gaps, default=None)


def produced_by(case):
    kind = case['config']['model_type']
    return 'naive_models.py, type %s: %s' % (kind, 'the mixer agrees with an official golden' if kind in CONFIRMED else
                                              'our reading, no official golden to confirm it')


def other_way(case):
    return 'f32'


if __name__ == '__main__':
    make_case.command_line(__doc__, CASES, sys.modules[__name__])
