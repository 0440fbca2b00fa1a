#!/usr/bin/env python3
"""flash-linear-attention's own models on a CPU in f32, over the options of its configurations.

usage: language_fla.py OUT [--case NAME]... [--seed N] [--list] [--quick]

Needs PYTHONPATH with Triton 3.5.1 (its interpreter loads the kernels; none is run), FLA=checkout of flash-linear-attention
(bc3b101) and FLA_CPU=folder of fla_cpu.py (the fixtures' generators), which puts the library's naive PyTorch recurrences,
norms and convolutions in the place of its kernels. --quick takes the first seed and writes no manifest: many cases in
little time, for check_run.py.
"""
import os
import sys

import torch
from safetensors.torch import save_file

import common
import make_case

CASES = {}
script, compute = 'language_fla.py', 'f32 (CPU)'


def case(name, cls, tokens=70, dtype='bfloat16', **config):
    base = {'vocab_size': 320, 'hidden_size': 48, 'num_hidden_layers': 2, 'intermediate_size': 64, 'bos_token_id': 0,
            'eos_token_id': 2, 'tie_word_embeddings': True, 'fuse_norm': True, 'fuse_swiglu': False, 'norm_eps': 1e-5}
    CASES[name] = {'what': 'fla %s: %s' % (cls, ', '.join('%s %s' % (k, v) for k, v in config.items())), 'cls': cls,
                   'tokens': tokens, 'dtype': dtype, 'config': {**base, **config}}


def attention(*layers, **more):
    return {'layers': list(layers), 'num_heads': 4, 'num_kv_heads': 2, **more}


case('gla_grouped_convolved', 'GLA', tokens=130, num_heads=6, num_kv_heads=3, expand_v=1.5, use_short_conv=True,
     clamp_min=-0.1, elementwise_affine=False)
case('gla_unfused', 'GLA', num_heads=4, fuse_norm=False, num_kv_heads=1, norm_eps=1e-3)
for activation in ('sigmoid', 'swish', 'gelu', 'sqrelu', 'relu'):
    case('gla_' + activation, 'GLA', num_heads=2, feature_map=activation)
case('gla_rounded', 'GLA', num_heads=3, expand_k=0.7, expand_v=0.57)
case('gla_hybrid', 'GLA', num_heads=3, num_hidden_layers=3, tokens=100,
     attn=attention(0, 2, window_size=10, qkv_bias=True, rope_theta=500.0))
case('retnet_convolved', 'RetNet', tokens=257, num_heads=3, use_short_conv=True, conv_size=3)
case('retnet_grouped', 'RetNet', tokens=129, num_heads=6, num_kv_heads=2, expand_k=0.5, expand_v=1.0,
     intermediate_size=None, hidden_ratio=2)
case('retnet_plain_norm', 'RetNet', num_heads=2, elementwise_affine=False)
case('retnet_unfused', 'RetNet', num_heads=2, fuse_norm=False, expand_v=1.5)
case('retnet_ungated', 'RetNet', num_heads=3, feature_map='relu', use_output_gate=False)
case('hgrn2_both', 'HGRN2', num_heads=2, expand_ratio=12, tokens=130, use_short_conv=True, conv_size=2,
     elementwise_affine=False)
case('hgrn2_deep', 'HGRN2', hidden_size=72, num_heads=None, expand_ratio=24, num_hidden_layers=4, tokens=257)
case('hgrn2_heads', 'HGRN2', num_heads=8, expand_ratio=None, use_lower_bound=False, norm_eps=1e-2)
case('hgrn2_hybrid', 'HGRN2', num_heads=None, expand_ratio=16, num_hidden_layers=3, attn=attention(1, window_size=20))
case('delta_net_narrow', 'DeltaNet', hidden_size=60, num_heads=5, expand_k=0.5, expand_v=1.5, use_gate=True, conv_size=2,
     tokens=130)
case('delta_net_negative', 'DeltaNet', num_heads=2, allow_neg_eigval=True, qk_activation='relu', qk_norm='sum', tokens=129)
case('delta_net_doubled', 'DeltaNet', num_heads=4, allow_neg_eigval=True, use_beta=False)
case('delta_net_elu', 'DeltaNet', num_heads=4, use_short_conv=False, qk_activation='elu')
case('delta_net_identity', 'DeltaNet', num_heads=2, use_short_conv=False, qk_activation='identity', use_gate=True)
case('delta_net_alternate', 'DeltaNet', num_hidden_layers=4, num_heads=3, tokens=257, attn=attention(1, 3, window_size=17))
case('delta_net_global', 'DeltaNet', num_hidden_layers=6, hidden_size=32, num_heads=2, tokens=100,
     attn=attention(1, 4, rope_theta=5000.0))
case('gated_deltanet_groups', 'GatedDeltaNet', num_heads=2, num_v_heads=6, head_dim=20, expand_v=1.5, conv_size=3,
     tokens=257)
case('gated_deltanet_bare', 'GatedDeltaNet', num_heads=1, num_v_heads=4, head_dim=24, use_short_conv=False, use_gate=False,
     allow_neg_eigval=True)
case('gated_deltanet_half', 'GatedDeltaNet', num_heads=4, head_dim=16, expand_v=0.5, norm_eps=1e-3, tokens=130)
case('gated_deltanet_hybrid', 'GatedDeltaNet', num_hidden_layers=4, num_heads=3, head_dim=8, tokens=130,
     attn=[attention(1, window_size=24), attention(3)])
case('kda_groups', 'KDA', num_heads=2, num_v_heads=4, head_dim=12, expand_v=2.0, tokens=130, conv_size=3, safe_gate=False,
     lower_bound=-2.0)
case('kda_safe', 'KDA', num_heads=3, head_dim=16, safe_gate=True, lower_bound=-5.0, tokens=257)
case('kda_bare', 'KDA', num_heads=2, num_v_heads=4, head_dim=20, expand_v=0.5, use_short_conv=False, allow_neg_eigval=True)
case('kda_hybrid', 'KDA', num_hidden_layers=4, num_heads=2, head_dim=16, attn=attention(3), tokens=129)
# The library has the layer alone: it takes the place of GLA's in a GLA model.
case('simple_gla_grouped', 'SimpleGLA', tokens=130, num_heads=6, num_kv_heads=2, expand_k=0.5, expand_v=1.5,
     use_short_conv=True, conv_size=3)
case('simple_gla_bare', 'SimpleGLA', num_heads=3, num_kv_heads=None, expand_k=1.0, expand_v=1.0, use_short_conv=False,
     conv_size=4, fuse_norm=False)
RANKS = {'decay_low_rank_dim': 8, 'gate_low_rank_dim': 16, 'a_low_rank_dim': 12, 'v_low_rank_dim': 4, 'hidden_act': 'sqrelu',
         'intermediate_size': None}
case('rwkv7_wide_values', 'RWKV7', head_dim=16, value_dim=96, tokens=130, **{**RANKS, 'hidden_act': 'relu'})
case('rwkv7_silu', 'RWKV7', head_dim=16, norm_bias=False, **{**RANKS, 'hidden_act': 'swish', 'intermediate_size': 80})
case('rwkv7_unfused', 'RWKV7', head_dim=8, num_hidden_layers=3, tokens=257, fuse_norm=False, norm_eps=1e-3, **RANKS)
case('rwkv7_heads', 'RWKV7', head_dim=None, num_heads=3, hidden_size=72, norm_first=False, tokens=129, hidden_ratio=3.0, **RANKS)
MOM = {'num_heads': 2, 'head_dim': 16, 'num_memories': 4, 'topk': 2, 'norm_eps': 1e-6}
case('mom_shared', 'Mom', tokens=100, **MOM)
case('mom_single', 'Mom', tokens=130, single_kv_proj=True, expand_v=1.5, **{**MOM, 'num_memories': 5, 'topk': 3})
case('mom_ungated', 'Mom', tokens=130, shared_mem=False, conv_size=3, use_output_gate=False,
     **{**MOM, 'num_heads': 3, 'head_dim': 12})
case('mom_all', 'Mom', expand_v=2.0, **{**MOM, 'topk': 4})
case('linear_attn_grouped', 'LinearAttention', tokens=130, num_heads=6, num_kv_heads=2, expand_k=0.5, expand_v=1.5)
case('linear_attn_hedgehog', 'LinearAttention', num_heads=4, feature_map='hedgehog', norm_q=True, norm_k=True,
     norm_feature_map=True)
case('linear_attn_dpfp', 'LinearAttention', num_heads=4, num_kv_heads=2, feature_map='dpfp', norm_feature_map=True)
case('linear_attn_elu', 'LinearAttention', tokens=257, num_heads=4, feature_map='elu', norm_feature_map=True)
case('linear_attn_sums', 'LinearAttention', num_heads=4, feature_map='relu', norm_q=True, norm_k=True,
     elementwise_affine=False)
case('linear_attn_identity', 'LinearAttention', num_heads=1, feature_map='identity')
case('linear_attn_t2r', 'LinearAttention', num_heads=4, num_kv_heads=2, feature_map='t2r', tie_feature_map_qk=True, tokens=129)
case('linear_attn_hybrid', 'LinearAttention', num_heads=4, tie_feature_map_qk=True, num_hidden_layers=4, attn=attention(3))


class Module:
    def __init__(self, model):
        self.model = model

    def __call__(self, input_ids, use_cache):
        with fla_cpu.torch_ops():
            return self.model(input_ids=input_ids, use_cache=False)

    def named_parameters(self):
        return list(self.model.named_parameters())


def rule(name, shape, seed):
    g, leaf = common.generator(name, seed), name.split('.')[-1]
    if leaf.startswith('x_') or leaf in ('k_a', 'k_k'):
        return torch.rand(tuple(shape), generator=g)
    if leaf == 'r_k':
        return 0.3 * torch.randn(tuple(shape), generator=g)
    return torch.randn(tuple(shape), generator=g) if 'lower_bounds' in name else None


def build(case, seed, folder):
    import fla.models
    simple = case['cls'] == 'SimpleGLA'
    cls = 'GLA' if simple else case['cls']
    config = getattr(fla.models, cls + 'Config')(**case['config'])
    model = getattr(fla.models, cls + 'ForCausalLM')
    model._tied_weights_keys = {'lm_head.weight': 'model.embeddings.weight'}  # as transformers 5 wants it
    model, dtype = model(config).float(), getattr(torch, case['dtype'])
    if simple:
        from fla.layers.simple_gla import SimpleGatedLinearAttention
        keys = ('hidden_size', 'expand_k', 'expand_v', 'num_heads', 'num_kv_heads', 'use_short_conv', 'conv_size',
                'norm_eps', 'fuse_norm')
        for i, layer in enumerate(model.model.layers):
            layer.attn = SimpleGatedLinearAttention(layer_idx=i, **{k: case['config'][k] for k in keys})
    common.randomise(model, seed, dtype, rule=rule)
    config.architectures = [case['cls'] + 'ForCausalLM']
    config.save_pretrained(folder)
    if simple:
        common.write_json(os.path.join(folder, 'config.json'), {**config.to_dict(), 'model_type': 'simple_gla'})
    tensors = {k: v.to(dtype).contiguous().clone() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embeddings.weight
        tensors.pop('lm_head.weight', None)
    save_file(tensors, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
    common.save_tokenizer(folder)
    return Module(model.eval())


router_gap = lambda model, ids, case: None
other_way = lambda case: 'prefixes'
noise = lambda model, ids, logits, case: common.prefix_noise(model, ids, logits)


def produced_by(case):
    return 'flash-linear-attention bc3b101, %sForCausalLM, its kernels replaced by its naive recurrences' % case['cls']


def quick(out, names):
    for name in names or CASES:
        folder = common.fresh_folder(os.path.join(out, name))
        ids = common.prompt_ids(name, CASES[name]['tokens'])
        model = build(CASES[name], 1, common.fresh_folder(os.path.join(folder, 'model')))
        common.write_reference(folder, ids, common.full_logits(model, ids), *common.greedy(model, ids, 4))
        print(name, flush=True)


if __name__ == '__main__':
    if '--list' not in sys.argv:
        sys.path[:0] = [os.environ['FLA'], os.environ['FLA_CPU']]
        ours = sys.modules.pop('common')  # fla_cpu has neighbours of that name
        import fla_cpu
        sys.modules['common'] = ours
        import fla.layers.rwkv6
        from fla.ops.simple_gla.naive import naive_recurrent_simple_gla
        simple = lambda q, k, v, g, **kw: (naive_recurrent_simple_gla(q, k, v, g)[0], None)
        fla_cpu.PATCHES['fla.layers.simple_gla'] = {'chunk_simple_gla': simple, 'fused_recurrent_simple_gla': simple}
        # Its initialisation does not know value_dim beyond hidden_size; all values are replaced anyway.
        fla.layers.rwkv6.LoRA.set_bias_value = lambda self, value: None
    if '--quick' in sys.argv:
        names = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == '--case']
        quick(sys.argv[1], names)
    else:
        make_case.command_line(__doc__, CASES, sys.modules[__name__])
