#!/usr/bin/env python3
"""Liger and LoLCATs by their official attention classes, on a CPU in f32.

usage: language_linearized.py OUT [--case NAME]... [--seed N] [--list]

LINEARIZATION and LOLCATS name checkouts of OpenSparseLLMs/Linearization (0b364eb) and HazyResearch/lolcats (375df84), FLA
one of flash-linear-attention (bc3b101). The models around the attention are transformers'. The attention classes are
unmodified; what they call and a CPU does not have is put in its place: fla's fused kernels by its naive recurrences,
flash attention by masked softmax with the window that transformers passes it (64 keys before the token up to release
4.54, then 63), the cast to bf16 before the output projection by none.
"""
import os
import sys
import types

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral

import common
import make_case
import naive_mixers

CASES = {}
script, compute = 'language_linearized.py', 'f32 (CPU)'
WINDOW = [64]  # keys with the token itself, of the case being run


# ------------------------------------------------------------------------------------------------- what a CPU lacks
def module(name, **members):
    found = sys.modules.setdefault(name, types.ModuleType(name))
    for key, value in members.items():
        setattr(found, key, value)
    return found


def first(out):
    return out[0] if isinstance(out, tuple) else out


def head_first_gla(q, k, v, g, scale=1.0, initial_state=None, output_final_state=False, **kw):
    """[batch, heads, T, d]: naive_recurrent_gla of the library, whose tensors are [batch, T, heads, d]."""
    assert initial_state is None
    turn = lambda x: x.transpose(1, 2)
    return turn(first(naive_gla(turn(q) * (scale * q.shape[-1] ** 0.5), turn(k), turn(v), turn(g)))), None


def head_first_gsa(q, k, v, s, g, scale=1.0, initial_state=None, output_final_state=False, **kw):
    assert initial_state is None
    turn = lambda x: x.transpose(1, 2)
    return turn(first(naive_gsa(turn(q), turn(k), turn(v), turn(s), turn(g), scale=scale))), None


def window_attention(q, k, v, mask, length, position_ids=None, **kw):
    """[1, T, heads, d], causal, WINDOW keys with the token itself; flash attention's scale is d ** -0.5."""
    return naive_mixers.softmax_attention(q[0], k[0], v[0], WINDOW[0])[None]


class OldMistralRotary(torch.nn.Module):
    """MistralRotaryEmbedding(dim, max_position_embeddings, base) as transformers had it."""

    def __init__(self, dim, max_position_embeddings, base):
        super().__init__()
        self.inverse = base ** (-torch.arange(0, dim, 2).float() / dim)

    def forward(self, x, position_ids):
        angle = (position_ids[..., None].float() * self.inverse).repeat(1, 1, 2)
        return angle.cos(), angle.sin()


def prepare():
    """Makes the checkouts importable."""
    global naive_gla, naive_gsa
    sys.path[:0] = [os.environ[name] for name in ('LINEARIZATION', 'LOLCATS', 'FLA')]
    from importlib import util
    for name in ('gla', 'gsa'):
        path = os.path.join(os.environ['FLA'], 'fla/ops/%s/naive.py' % name)
        spec = util.spec_from_file_location('naive_' + name, path)
        loaded = util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        globals()['naive_' + name] = getattr(loaded, 'naive_recurrent_' + name)
    for name in ('fla', 'fla.models', 'fla.ops', 'fla.modules'):
        module(name).__path__ = []
    module('fla.models.utils', Cache=object)
    module('fla.ops.gla', chunk_gla=head_first_gla, fused_chunk_gla=head_first_gla, fused_recurrent_gla=head_first_gla)
    module('fla.ops.gsa', chunk_gsa=head_first_gsa, fused_recurrent_gsa=head_first_gsa)
    module('fla.modules.activations', swish=F.silu)
    module('omegaconf', OmegaConf=object, DictConfig=type('DictConfig', (), {}))
    same = lambda *a, **k: (lambda f: f)
    for name in ('add_start_docstrings_to_model_forward', 'add_start_docstrings', 'add_code_sample_docstrings',
                 'replace_return_docstrings'):
        if not hasattr(transformers.utils, name):
            setattr(transformers.utils, name, same)
    for name in ('LossKwargs', 'is_flash_attn_greater_or_equal_2_10', 'is_flash_attn_2_available'):
        if not hasattr(transformers.utils, name):
            setattr(transformers.utils, name, type(name, (), {}) if name == 'LossKwargs' else lambda: False)
    for path in ('llama.modeling_llama', 'mistral.modeling_mistral', 'qwen2.modeling_qwen2', 'qwen3.modeling_qwen3'):
        full = sys.modules.get('transformers.models.' + path) or __import__('transformers.models.' + path,
                                                                           fromlist=['x'])
        for name in ('LLAMA_INPUTS_DOCSTRING', 'MISTRAL_INPUTS_DOCSTRING', 'QWEN2_INPUTS_DOCSTRING'):
            if not hasattr(full, name):
                setattr(full, name, '')


def official(kind):
    """The attention class of a Liger kind, its surroundings patched."""
    from importlib import import_module
    # Its package imports all of its models; only one file is wanted.
    for name in ('liger', 'liger.models', 'liger.models.' + kind):
        module(name).__path__ = [os.path.join(os.environ['LINEARIZATION'], *name.split('.'))]
    inner = import_module('liger.models.%s.configuration_%s' % (kind, kind))
    for name, value in list(vars(inner).items()):
        setattr(sys.modules['liger.models.' + kind], name, value)
    loaded = import_module('liger.models.%s.modeling_%s' % (kind, kind))
    loaded._flash_attention_forward = window_attention
    loaded.is_flash_attn_greater_or_equal_2_10 = lambda: False
    if kind == 'liger_mistral_gla':
        loaded.MistralRotaryEmbedding = OldMistralRotary
    return next(c for n, c in vars(loaded).items() if n.startswith('Liger') and n.endswith('Attention'))


class Adapter(torch.nn.Module):
    """The official layer behind the signature that transformers 5 calls; its parameters keep their names."""

    def __init__(self, layer):
        super().__init__()
        for name, child in layer.named_children():
            setattr(self, name, child)
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(self, name, parameter)
        self.layer = [layer]

    def forward(self, hidden_states, position_embeddings=None, **kw):
        positions = torch.arange(hidden_states.shape[1])[None]
        cast, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, lambda x: x
        try:
            out = self.layer[0](hidden_states, position_ids=positions, position_embeddings=position_embeddings)
        finally:
            torch.Tensor.bfloat16 = cast
        return out[0], None


# ------------------------------------------------------------------------------------------------------ the cases
def case(name, what, kind, tokens=130, window=64, **config):
    base = {'vocab_size': 320, 'hidden_size': 48, 'num_hidden_layers': 2, 'intermediate_size': 64, 'hidden_act': 'silu',
            'rms_norm_eps': 1e-5, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'rope_theta': 10000.0,
            'max_position_embeddings': 2048, 'tie_word_embeddings': True, 'bos_token_id': 0, 'eos_token_id': 2,
            'torch_dtype': 'bfloat16', 'model_type': kind}
    if kind != 'lolcats':
        base['transformers_version'] = '4.57.1' if window == 64 else '4.47.1'
    CASES[name] = {'what': what, 'tokens': tokens, 'dtype': 'bfloat16', 'window': window, 'config': {**base, **config}}


case('liger_gsa', 'Liger-GSA, 6 slots for heads of 12, 64 keys in the window.', 'liger_gsa', head_dim=12, pool_size=6,
     attention_bias=False, mlp_bias=False)
case('liger_gsa_wide', 'Liger-GSA, 20 slots for heads of 16 (heads are wider than hidden / heads), one key head.',
     'liger_gsa', tokens=70, head_dim=16, pool_size=20, num_attention_heads=3, num_key_value_heads=1,
     attention_bias=False, mlp_bias=False, tie_word_embeddings=False)
case('liger_hgrn2', 'Liger-HGRN2, one key head for three, 65 keys in the window.', 'liger_hgrn2', window=65, head_dim=16,
     num_attention_heads=3, num_key_value_heads=1, attention_bias=False, mlp_bias=False)
case('liger_llama', 'Liger-GLA with llama3 rotary scaling, heads of 20.', 'liger_gla', tokens=257, head_dim=20,
     attention_bias=False, mlp_bias=False,
     rope_scaling={'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                   'original_max_position_embeddings': 64, 'rope_type': 'llama3'})
case('liger_mistral', 'Liger-GLA on Mistral.', 'liger_mistral_gla', head_dim=12, sliding_window=None)
case('liger_qwen2', 'Liger-GLA on Qwen2.5: biases of q, k and v.', 'liger_qwen2_gla', num_attention_heads=6,
     num_key_value_heads=3, use_sliding_window=False)
case('liger_qwen3', 'Liger-GLA on Qwen3: biases, and no norm of q and k.', 'liger_qwen3_gla', tokens=70, head_dim=12,
     tie_word_embeddings=False, use_sliding_window=False, attention_bias=False)
HAZY = {'attention_bias': False, 'mlp_bias': False, 'feature_map': 'softmax_dim', 'normalizer_epsilon': 0.0}
case('lolcats_hazy', 'LoLCATs in the layout of its authors: one map tensor for all heads, window of 16, trained factors.',
     'lolcats', head_dim=12, window_size=16, feature_dim=10, **HAZY)
case('lolcats_hazy_affine', 'As its authors have it, with affine factors, skip connection, one key head for four; q and k '
     'share the map, which the file has under both names.', 'lolcats', tokens=70, head_dim=12, window_size=24,
     num_key_value_heads=1, affine_attention_factors=True, skip_connection=True, tie_feature_map_qk=True,
     tie_word_embeddings=False, **HAZY)


def lolcats_layer(base, config, layer):
    from src.model.linear_attention.linear_window_attention_sw import LolcatsSlidingWindowAttention
    base.hidden_size, base.num_heads = config['hidden_size'], config['num_attention_heads']
    base.num_key_value_heads = config['num_key_value_heads']
    base.rotary_emb = modeling_llama.LlamaRotaryEmbedding(base.config)
    return LolcatsSlidingWindowAttention(
        window_size=config['window_size'], affine_attention_factors=config.get('affine_attention_factors', False),
        init_window_factor=-0.5, base_attn=base, layer_idx=layer, feature_map='softmax_dim',
        feature_map_kwargs={'eps': 1e-12}, learned_kernel='untied_head_einsum',
        learned_kernel_kwargs={'feature_dim': config.get('feature_dim', config['head_dim']),
                               'skip_connection': config.get('skip_connection', False), 'bias': False,
                               'zero_init': False},
        tie_qk_kernels=config.get('tie_feature_map_qk', False), attention_type='lolcats_llama_window_sw', rank=1)


BASES = {'liger_mistral_gla': 'Mistral', 'liger_qwen2_gla': 'Qwen2', 'liger_qwen3_gla': 'Qwen3'}


class Module:
    def __init__(self, model, window):
        self.model, self.window = model, window

    def __call__(self, input_ids, use_cache):
        WINDOW[0] = self.window
        return self.model(input_ids=input_ids, use_cache=False)

    def named_parameters(self):
        return list(self.model.named_parameters())


def build(case, seed, folder):
    config = case['config']
    kind = config['model_type']
    base = BASES.get(kind, 'Llama')
    given = {k: v for k, v in config.items() if k not in ('model_type', 'torch_dtype', 'transformers_version')}
    loaded = getattr(transformers, base + 'Config')(**given)
    loaded.rope_theta = config['rope_theta']  # where the official classes look for it
    loaded._attn_implementation = 'eager'
    model = getattr(transformers, base + 'ForCausalLM')(loaded).float()
    for i, layer in enumerate(model.model.layers):
        if kind == 'lolcats':
            layer.self_attn = Adapter(lolcats_layer(layer.self_attn, config, i))
        else:
            layer.self_attn = Adapter(official(kind)(loaded, layer_idx=i))
    common.randomise(model, seed, torch.bfloat16)
    tensors = {name: p.to(torch.bfloat16).contiguous().clone() for name, p in model.state_dict().items()
               if not (name == 'lm_head.weight' and config['tie_word_embeddings']) and 'rotary' not in name}
    save_file(tensors, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
    common.write_json(os.path.join(folder, 'config.json'), config)
    common.save_tokenizer(folder)
    return Module(model.eval(), case['window'])


router_gap = lambda model, ids, case: None
other_way = lambda case: 'prefixes'
noise = lambda model, ids, logits, case: common.prefix_noise(model, ids, logits)


def produced_by(case):
    hazy = case['config']['model_type'] == 'lolcats'
    return ('HazyResearch/lolcats 375df84, LolcatsSlidingWindowAttention' if hazy else
            'OpenSparseLLMs/Linearization 0b364eb, its attention class') + ', around it transformers ' + \
        transformers.__version__


if __name__ == '__main__':
    transformers.logging.set_verbosity_error()
    if '--list' not in sys.argv:
        prepare()
    make_case.command_line(__doc__, CASES, sys.modules[__name__])
