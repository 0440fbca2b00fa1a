#!/usr/bin/env python3
"""Tiny random language models run by transformers on a CPU in f32: what importers and ops are held to.

usage: language_transformers.py OUT [--case NAME]... [--seed N] [--list]

Writes OUT/CASE/model (config.json, safetensors, tokenizer), OUT/CASE/reference.safetensors and OUT/CASE/manifest.json.
Another seed gives other weights of the same shapes: cases nobody has tuned to.
"""
import os
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

import common
import language_cases_recurrent
import language_cases_softmax
import make_case

CASES = {**language_cases_softmax.CASES, **language_cases_recurrent.CASES}
UNIT_OFFSET = {'gemma2', 'qwen3_next', 'qwen3_5_text', 'qwen3_5_moe_text'}


def unit_offset(model_type):
    """Which norm weights are applied as 1 + w: all of these families' but the gated norm of the linear layers."""
    return lambda name: model_type in UNIT_OFFSET and 'linear_attn.norm' not in name


def build(case, seed, folder):
    """Writes the checkpoint and returns the model as from_pretrained reads it back, in f32 with eager attention."""
    config, dtype = case['config'], getattr(torch, case['dtype'])
    with tempfile.TemporaryDirectory() as scratch:
        common.write_json(os.path.join(scratch, 'config.json'), config)
        loaded = transformers.AutoConfig.from_pretrained(scratch)
        if hasattr(loaded, 'text_config'):
            loaded = loaded.text_config
        cls = getattr(transformers, config['architectures'][0].replace('ForConditionalGeneration', 'ForCausalLM'))
        model = cls._from_config(loaded, attn_implementation='eager', dtype=torch.float32)
        common.randomise(model, seed, dtype, unit_offset(loaded.model_type), case.get('rule'))
        keep_f32 = case.get('keep_f32', ())
        if dtype != torch.float32:
            for name, p in list(model.named_parameters()) + list(common.saved_buffers(model)):
                if not any(k in name for k in keep_f32):
                    p.data = p.data.to(dtype)
        model.save_pretrained(scratch, **({'max_shard_size': '100KB'} if case['shards'] else {}))
        if case.get('published'):
            weights = os.path.join(scratch, 'model.safetensors')
            save_file(case['published'](load_file(weights)), weights, metadata={'format': 'pt'})
        for name in os.listdir(scratch):
            if 'safetensors' in name:
                shutil.copy(os.path.join(scratch, name), folder)
    common.write_json(os.path.join(folder, 'config.json'), config)
    common.save_tokenizer(folder)
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager',
                                      output_loading_info=True)
    assert not info['missing_keys'] and not info['mismatched_keys'], info
    return model.eval()


def router_gap(model, ids, case):
    """The smallest distance between the last chosen and the first refused expert: below rounding, no runtime could be
    asked to agree. None without experts."""
    gaps, hooks = [], []

    def look(module, inputs, output):
        scores = (output[0] if isinstance(output, tuple) else output).detach().float()
        experts = scores.shape[-1]
        config = case['config'].get('text_config', case['config'])
        k = config.get('num_experts_per_tok') or config.get('num_experts_per_token')
        if k and k < experts:
            bias = getattr(module, 'e_score_correction_bias', None)
            scores = scores if bias is None else scores.sigmoid() + bias
            top = scores.reshape(-1, experts).topk(k + 1).values
            gaps.append(float((top[:, k - 1] - top[:, k]).min()))

    for name, module in model.named_modules():
        if case.get('router') and name.endswith(case['router']):
            hooks.append(module.register_forward_hook(look))
    common.full_logits(model, ids)
    for hook in hooks:
        hook.remove()
    return min(gaps) if gaps else None


def noise(model, ids, logits, case):
    """max |d logits| of the official code against itself: token by token through its cache, or, where that is known
    to compute something else, over growing prefixes."""
    if case.get('cache_differs'):
        return common.prefix_noise(model, ids, logits)
    return float((common.stepwise_logits(model, ids) - logits[0]).abs().max())


script, compute = 'language_transformers.py', 'f32 (CPU), eager attention'


def produced_by(case):
    return 'transformers %s, class %s, unmodified' % (transformers.__version__, case['config']['architectures'][0])


def other_way(case):
    return 'prefixes' if case.get('cache_differs') else 'step_by_step'


if __name__ == '__main__':
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    make_case.command_line(__doc__, CASES, sys.modules[__name__])
