"""Packed matrices as quantisers write them, and what they stand for.

    python tests/oracles/packed_golden.py SEED_FIXTURES tests/golden/readers/packed

By the official code: compressed-tensors (pack_to_int32; nvfp4 and mxfp4 from the fixtures), bitsandbytes (quantize_4bit,
dequantize_4bit), gpt-oss and FP-Quant (fixtures). By our own statement of the packing, written apart from the reader:
GPTQ (AutoGPTQ's qlinear: codes down the inputs, zero points less one) and AWQ (AutoAWQ's order of nibbles).
"""
import os
import sys

import bitsandbytes.functional as bnb
import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import load_file, save_file

SEED = 22
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def groups(rng, rows, columns, size, bits, symmetric):
    q = rng.integers(0, 1 << bits, (rows, columns))
    scale = (rng.random((rows, columns // size)) * 0.02 + 0.001).astype(np.float16)
    zero = np.full(scale.shape, 1 << (bits - 1)) if symmetric else rng.integers(1, (1 << bits) - 1, scale.shape)
    return q, scale, zero


def value(q, scale, zero, group_of):
    return torch.from_numpy(scale.astype(np.float32)[:, group_of] * (q - zero[:, group_of]).astype(np.float32))


def words(codes, bits):  # along the last axis, the first in the low bits
    n = 32 // bits
    parts = codes.reshape(*codes.shape[:-1], -1, n).astype(np.uint64) << (np.arange(n, dtype=np.uint64) * bits)
    return torch.from_numpy(parts.sum(-1).astype(np.uint32).view(np.int32).copy())


def gptq(rng, out, name, bits, symmetric, act_order=False, rows=48, columns=256, size=64):
    q, scale, zero = groups(rng, rows, columns, size, bits, symmetric)
    group_of = np.arange(columns) // size
    if act_order:
        group_of = rng.permutation(group_of)
    out['stored'][name + '.qweight'] = words(q, bits).T.contiguous()
    out['stored'][name + '.qzeros'] = words((zero - 1).T.copy(), bits)
    out['stored'][name + '.scales'] = torch.from_numpy(scale.T.copy())
    out['stored'][name + '.g_idx'] = torch.from_numpy(group_of.astype(np.int32))
    out['values'][name + '.weight'] = value(q, scale, zero, group_of)


def awq(rng, out, name, rows=48, columns=256, size=128):
    q, scale, zero = groups(rng, rows, columns, size, 4, False)

    def pack(matrix):  # [lines, outputs]
        return words(matrix.reshape(matrix.shape[0], -1, 8)[:, :, AWQ_ORDER].reshape(matrix.shape[0], -1), 4)
    out['stored'][name + '.qweight'] = pack(q.T.copy())
    out['stored'][name + '.qzeros'] = pack(zero.T.copy())
    out['stored'][name + '.scales'] = torch.from_numpy(scale.T.copy())
    out['values'][name + '.weight'] = value(q, scale, zero, np.arange(columns) // size)


def compressed(rng, out, name, bits, symmetric, rows=48, columns=256, size=128, scale_type=torch.float16):
    q, scale, zero = groups(rng, rows, columns, size, bits, symmetric)
    half = 1 << (bits - 1)
    stored = torch.from_numpy(scale).to(scale_type)
    out['stored'][name + '.weight_packed'] = pack_to_int32(torch.from_numpy(q - half).to(torch.int8), bits)
    out['stored'][name + '.weight_scale'] = stored
    out['stored'][name + '.weight_shape'] = torch.tensor([rows, columns])
    if not symmetric:
        out['stored'][name + '.weight_zero_point'] = pack_to_int32(torch.from_numpy(zero - half).to(torch.int8), bits, 0)
    out['values'][name + '.weight'] = value(q, stored.float().numpy(), zero, np.arange(columns) // size)


def bits_and_bytes(out):
    torch.manual_seed(SEED)
    for name, nested, kind in [('bnb_nested', True, 'nf4'), ('bnb_plain', False, 'nf4'), ('bnb_fp4', False, 'fp4')]:
        codes, state = bnb.quantize_4bit(torch.randn(24, 192) * 0.02, quant_type=kind, blocksize=64, compress_statistics=nested)
        out['stored'][name + '.weight'] = codes
        for key, tensor in state.as_dict(packed=True).items():
            out['stored'][f'{name}.weight.{key}'] = tensor
        out['values'][name + '.weight'] = bnb.dequantize_4bit(codes, state)
    codes = torch.randint(-127, 128, (24, 64), dtype=torch.int8)
    most = torch.rand(24) + 0.1
    out['stored']['bnb_int8.weight'], out['stored']['bnb_int8.SCB'] = codes, most
    out['values']['bnb_int8.weight'] = codes.float() * (most / 127)[:, None]


def fixtures(folder, out):
    def put(name, fixture, file, expected, key='proj'):
        stored = load_file(os.path.join(folder, fixture, file))
        for tensor, data in stored.items():
            out['stored'][tensor.replace(key, name, 1)] = data
        reference = load_file(os.path.join(folder, fixture, 'reference.safetensors'))
        out['values'][name + '.weight'] = reference[expected].contiguous()
    put('ct_nvfp4', 'fp_compressed_tensors', 'nvfp4.safetensors', 'nvfp4_f32')
    put('ct_mxfp4', 'fp_compressed_tensors', 'mxfp4.safetensors', 'mxfp4_f32')
    put('modelopt', 'fp_modelopt', 'nvfp4.safetensors', 'f32')
    put('quest32', 'fp_quant', 'mxfp4_quest32.safetensors', 'quest32_unrotated_weight')
    put('absmax128', 'fp_quant', 'mxfp4_absmax128.safetensors', 'absmax128_unrotated_weight')
    put('nv16', 'fp_quant', 'nvfp4_absmax16.safetensors', 'nv16_unrotated_weight')
    for name in ('quest32', 'absmax128', 'nv16'):
        out['stored'].pop(name + '.bias', None)
    experts = load_file(os.path.join(folder, 'fp_gpt_oss', 'mxfp4.safetensors'))
    out['stored'].update(experts)
    reference = load_file(os.path.join(folder, 'fp_gpt_oss', 'reference.safetensors'))
    out['values']['experts.gate_up_proj'] = reference['experts.gate_up_proj'].transpose(1, 2).contiguous()


def main(folder, target):
    os.makedirs(target, exist_ok=True)
    rng = np.random.default_rng(SEED)
    out = {'stored': {}, 'values': {}}
    gptq(rng, out, 'gptq', 4, True)
    gptq(rng, out, 'gptq_zeros', 4, False)
    gptq(rng, out, 'gptq_order', 4, True, act_order=True)
    awq(rng, out, 'awq')
    compressed(rng, out, 'ct4', 4, True)
    compressed(rng, out, 'ct4_bf16', 4, True, scale_type=torch.bfloat16)
    compressed(rng, out, 'ct4_zeros', 4, False)
    compressed(rng, out, 'ct8', 8, True)
    bits_and_bytes(out)
    fixtures(folder, out)
    codes, powers = torch.randn(16, 64).to(torch.float8_e4m3fn), torch.randint(110, 130, (16, 2), dtype=torch.uint8)
    out['stored']['mxfp8.weight'], out['stored']['mxfp8.weight_scale'] = codes, powers
    out['values']['mxfp8.weight'] = codes.float() * torch.exp2(powers.float() - 127).repeat_interleave(32, 1)
    save_file({k: v.contiguous() for k, v in out['stored'].items()}, os.path.join(target, 'stored.safetensors'))
    save_file(out['values'], os.path.join(target, 'values.safetensors'))
    eight = {'stored': {}, 'values': {}}
    gptq(rng, eight, 'gptq', 8, True)
    save_file(eight['stored'], os.path.join(target, 'stored8.safetensors'))
    save_file(eight['values'], os.path.join(target, 'values8.safetensors'))


if __name__ == '__main__':
    main(*sys.argv[1:])
