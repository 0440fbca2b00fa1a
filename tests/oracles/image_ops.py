"""Goldens of the ops of images, by PyTorch and diffusers. usage: image_ops.py OUT (tests/golden/ops)"""
import sys

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from safetensors.torch import save_file
from transformers.models.t5.modeling_t5 import T5Attention

OUT = sys.argv[1]


def save(name, **tensors):
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, f"{OUT}/{name}.safetensors")


def hwc(image):  # [1, C, H, W] -> [H, W, C]
    return image[0].permute(1, 2, 0)


def nchw(image):  # [H, W, C] -> [1, C, H, W]
    return image.permute(2, 0, 1)[None]


torch.manual_seed(1)

# Linear attention of DC-AE: heads are consecutive thirds of the concatenation (SanaMultiscaleAttnProcessor2_0).
first, second = torch.randn(5, 7, 72), torch.randn(5, 7, 72)
qkv = torch.cat([first, second], dim=-1).reshape(35, 6, 24).permute(1, 2, 0)  # heads, channels, pixels
q, k, v = qkv.chunk(3, dim=1)
q, k = F.relu(q), F.relu(k)
v = F.pad(v, (0, 0, 0, 1), value=1)
out = (v @ k.transpose(-1, -2)) @ q
out = out[:, :-1] / (out[:, -1:] + 1e-15)
save("dcae_linear_attention", first=first, second=second, y=out.permute(2, 0, 1).reshape(5, 7, 48))

# Convolutions: [O, I, kh, kw] becomes [O, kh, kw, I]; depthwise [C, 1, kh, kw] becomes [kh, kw, C].
x, weight, bias = torch.randn(6, 10, 8), torch.randn(6, 8, 3, 3), torch.randn(6)
y = F.conv2d(nchw(x), weight, bias, stride=2, padding=1)
depth_weight, depth_bias = torch.randn(8, 1, 3, 3), torch.randn(8)
a, b = F.conv2d(nchw(x), depth_weight, depth_bias, padding=1, groups=8).chunk(2, dim=1)
save("convolution_2d", x=x, weight=weight.permute(0, 2, 3, 1), bias=bias, y=hwc(y),
     depth_weight=depth_weight[:, 0].permute(1, 2, 0), depth_bias=depth_bias, gated=hwc(a * F.silu(b)))

# DC-AE's shortcuts (DCUpBlock2d with 12 to 6 channels, DCDownBlock2d with 12 to 24), DiT's unpatchify.
x = torch.randn(4, 6, 12)
up = F.pixel_shuffle(nchw(x).repeat_interleave(6 * 4 // 12, dim=1), 2)
down = F.pixel_unshuffle(nchw(x), 2).unflatten(1, (-1, 12 * 4 // 24)).mean(dim=2)
patches = torch.einsum("nhwpqc->nchpwq", x.reshape(1, 4, 6, 2, 2, 3)).reshape(3, 8, 12)
save("resample", x=x, up=hwc(up), down=hwc(down), unpatchified=patches)

t = torch.tensor([0.45, 1.0, 499.5, 999.0])
save("timestep_embedding", t=t,
     sana=get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0),
     dit=get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=1),
     sines_first=get_timestep_embedding(t, 33, flip_sin_to_cos=False, downscale_freq_shift=0, scale=0.5))

save("position_embedding_2d",
     pixart=get_2d_sincos_pos_embed(16, (6, 9), interpolation_scale=2, base_size=64, output_type="pt"),
     plain=get_2d_sincos_pos_embed(16, (6, 9), interpolation_scale=1, base_size=6, output_type="pt"))

# Adaptive norm and group norm.
x, modulation = torch.randn(3, 5, 16), torch.randn(4, 16)
adaptive = F.layer_norm(x, (16,), eps=1e-6) * (1 + modulation[2]) + modulation[1]
weight, bias = torch.randn(16), torch.randn(16)
group = F.silu(F.group_norm(nchw(x), 4, weight, bias, eps=1e-6))
save("image_norm", x=x, modulation=modulation, adaptive=adaptive, weight=weight, bias=bias, group=hwc(group))

# T5's attention with its bias: 4 heads of 3 channels, 150 tokens, so that the largest distance is passed.
tokens, heads, size = 150, 4, 3
q, k, v = (torch.randn(tokens, heads, size) for _ in range(3))
table = torch.randn(32, heads)
distance = torch.arange(tokens)[None, :] - torch.arange(tokens)[:, None]
bucket = T5Attention._relative_position_bucket(distance, bidirectional=True, num_buckets=32, max_distance=128)
scores = torch.einsum("qhd,khd->hqk", q, k) + table[bucket].permute(2, 0, 1)
y = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)
save("t5_attention", q=q.reshape(tokens, -1), k=k.reshape(tokens, -1), v=v.reshape(tokens, -1), table=table,
     y=y.reshape(tokens, -1))
