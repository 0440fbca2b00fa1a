"""Goldens of the readers: files as the official libraries write them, and the values those libraries read back.

    python tests/oracles/readers_golden.py tests/golden/readers

- blocks.gguf: one tensor per GGUF encoding (gguf's own quantizer where it has one, random codes under finite
  scales where it has none) and a metadata key of every type; blocks.safetensors: gguf.quants.dequantize of each.
- dtypes.safetensors: one tensor per safetensors dtype, FP8 with all 256 codes (torch); dtypes_f32.safetensors:
  torch's conversion to f32.
- fp8/: a folder as FP8 checkpoints are published, with block, row and tensor scales; fp8_f32.safetensors.
"""
import json
import os
import sys

import gguf
import numpy as np
import torch
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Kind
from safetensors.torch import save_file

SEED = 20250
ENCODINGS = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K',
             'IQ4_NL', 'IQ4_XS', 'MXFP4', 'NVFP4', 'TQ1_0', 'TQ2_0']
# Byte offsets of the f16 scales in a block of the encodings that gguf cannot quantize to.
SCALES = {'Q2_K': (80, 82), 'Q3_K': (108,), 'Q4_K': (0, 2), 'Q5_K': (0, 2), 'Q6_K': (208,), 'IQ4_NL': (0,), 'IQ4_XS': (0,)}


def blocks(rng, name, rows, columns):
    """Encoded bytes [rows, bytes per row] of random values."""
    kind = Kind[name]
    values = (rng.standard_normal((rows, columns)) * rng.choice([0.02, 1.0, 30.0], (rows, columns // 32)).repeat(32, 1))
    values = values.astype(np.float32)
    if name == 'F32':
        return values.view(np.uint8)
    if name == 'F16':
        return values.astype(np.float16).view(np.uint8)
    if name == 'NVFP4':  # gguf cannot quantize to it: random codes under every scale that is a number
        data = rng.integers(0, 256, (rows * columns // 64, 36), dtype=np.uint8)
        data[:, :4] %= 0x7F
        return data.reshape(rows, -1)
    if name not in SCALES:
        return quants.quantize(values, kind)
    size, size_bytes = GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (rows * columns // size, size_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        data[:, at:at + 2] = (rng.standard_normal((len(data), 1)) * 0.01).astype(np.float16).view(np.uint8)
    return data.reshape(rows, -1)


def write_gguf(out):
    rng = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(os.path.join(out, 'blocks.gguf'), 'llama')
    writer.add_uint8('test.u8', 200)
    writer.add_int8('test.i8', -100)
    writer.add_uint16('test.u16', 60000)
    writer.add_int16('test.i16', -30000)
    writer.add_uint32('test.u32', 4000000000)
    writer.add_int32('test.i32', -2000000000)
    writer.add_uint64('test.u64', 1 << 62)
    writer.add_int64('test.i64', -(1 << 62))
    writer.add_float32('test.f32', 0.1)
    writer.add_float64('test.f64', 0.1)
    writer.add_bool('test.bool', True)
    writer.add_string('test.string', 'linnet \u2581 \U0001F426')
    writer.add_array('test.integers', [1, -2, 3])
    writer.add_array('test.numbers', [0.5, -0.25])
    writer.add_array('test.flags', [True, False, True])
    writer.add_array('test.strings', ['a', '', 'ccc'])
    expected = {}
    for name in ENCODINGS:
        data = blocks(rng, name, 3, 512)
        kind = Kind[name]
        if name == 'F32':
            values = data.view(np.float32)
            writer.add_tensor('t.' + name, values)
        elif name == 'F16':
            values = data.view(np.float16).astype(np.float32)
            writer.add_tensor('t.' + name, data.view(np.float16))
        else:
            values = quants.dequantize(data, kind)
            writer.add_tensor('t.' + name, data, raw_dtype=kind)
        expected['t.' + name] = torch.from_numpy(np.ascontiguousarray(values.reshape(3, 512)))
    writer.add_tensor('t.cube', np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    expected['t.cube'] = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, os.path.join(out, 'blocks.safetensors'))


def write_dtypes(out):
    g = torch.Generator().manual_seed(SEED)
    normal = torch.randn(2, 3, 5, generator=g)
    codes = torch.arange(256, dtype=torch.uint8).reshape(8, 32)
    tensors = {
        'f64': normal.double() * 1e3, 'f32': normal, 'f16': normal.half(), 'bf16': normal.bfloat16(),
        'f8_e4m3': codes.view(torch.float8_e4m3fn), 'f8_e5m2': codes.clone().view(torch.float8_e5m2),
        'i64': torch.tensor([[-(1 << 40), 7]]), 'i32': torch.tensor([-(1 << 30), 3], dtype=torch.int32),
        'i16': torch.tensor([-32768, 5], dtype=torch.int16), 'i8': torch.tensor([-128, 127], dtype=torch.int8),
        'u8': torch.tensor([0, 255], dtype=torch.uint8), 'u16': torch.tensor([0, 65535], dtype=torch.uint16),
        'u32': torch.tensor([0, 1 << 31], dtype=torch.uint32), 'u64': torch.tensor([0, 1 << 50], dtype=torch.uint64),
        'bool': torch.tensor([True, False, True]), 'scalar': torch.tensor(2.5), 'empty': torch.zeros(0, 4),
    }
    save_file(tensors, os.path.join(out, 'dtypes.safetensors'), metadata={'format': 'pt'})
    save_file({k: v.float() for k, v in tensors.items()}, os.path.join(out, 'dtypes_f32.safetensors'))


def write_fp8(out):
    """rows and columns are no multiples of the block, as in DeepSeek's kv_a_proj (576 rows under blocks of 128)."""
    g = torch.Generator().manual_seed(SEED + 1)
    block = 16
    stored, expected = {}, {}

    def weight(name, shape):
        codes = torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)
        codes[(codes & 127) == 127] = 0  # no NaN
        stored[name] = codes.view(torch.float8_e4m3fn)
        return stored[name].float()

    blocked = weight('blocked.weight', (40, 72))
    scale = torch.rand(3, 5, generator=g) + 0.5
    stored['blocked.weight_scale_inv'] = scale
    expected['blocked.weight'] = blocked * scale.repeat_interleave(block, 0)[:40].repeat_interleave(block, 1)[:, :72]
    experts = weight('experts.weight', (2, 24, 32))
    scale = torch.rand(2, 2, 2, generator=g) + 0.5
    stored['experts.weight_scale_inv'] = scale
    expected['experts.weight'] = experts * scale.repeat_interleave(block, 1)[:, :24].repeat_interleave(block, 2)
    rows = weight('rows.weight', (6, 8))
    stored['rows.weight_scale'] = (torch.rand(6, 1, generator=g) + 0.5).bfloat16()
    expected['rows.weight'] = rows * stored['rows.weight_scale'].float()
    whole = weight('whole.weight', (6, 8))
    stored['whole.weight_scale'] = torch.tensor(0.375)
    stored['whole.input_scale'] = torch.tensor(3.0)
    expected['whole.weight'] = whole * 0.375
    integers = torch.randint(-128, 128, (6, 8), generator=g, dtype=torch.int8)
    stored['integers.weight'] = integers
    stored['integers.weight_scale'] = torch.rand(6, generator=g) + 0.5
    expected['integers.weight'] = integers.float() * stored['integers.weight_scale'][:, None]
    stored['plain.weight'] = expected['plain.weight'] = torch.randn(4, 4, generator=g)
    folder = os.path.join(out, 'fp8')
    os.makedirs(folder, exist_ok=True)
    save_file(stored, os.path.join(folder, 'model.safetensors'))
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump({'quantization_config': {'quant_method': 'fp8', 'weight_block_size': [block, block]}}, f)
    save_file(expected, os.path.join(out, 'fp8_f32.safetensors'))


if __name__ == '__main__':
    target = sys.argv[1]
    os.makedirs(target, exist_ok=True)
    write_gguf(target)
    write_dtypes(target)
    write_fp8(target)
