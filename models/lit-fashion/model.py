"""DiT and LiT in pixel space, with the tensor names of the original DiT code.

One class for both: `attention="softmax"` is the teacher, `attention="linear"` is LiT (few heads, ReLU feature map, a
depthwise 5x5 convolution of v as an image, added before the output projection).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def sincos_positions(width, side):
    """Fixed 2-D positions: half the channels for the column, half for the row (sin block, then cos block)."""
    def one(positions):
        omega = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
        angle = positions.double()[:, None] * omega[None]
        return torch.cat([angle.sin(), angle.cos()], dim=1)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([one(column.reshape(-1)), one(row.reshape(-1))], dim=1).float()[None]


def timestep_frequencies(t, size=256):
    frequencies = torch.exp(-math.log(10000) * torch.arange(size // 2, dtype=torch.float32) / (size // 2))
    angle = t[:, None].float() * frequencies[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimestepEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.mlp[0].weight, std=0.02)
        nn.init.normal_(self.mlp[2].weight, std=0.02)

    def forward(self, t):
        return self.mlp(timestep_frequencies(t))


class LabelEmbedder(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)  # the last row is "no class"
        nn.init.normal_(self.embedding_table.weight, std=0.02)

    def forward(self, labels):
        return self.embedding_table(labels)


class SoftmaxAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        # Spelled out: on a processor the backward pass of scaled_dot_product_attention takes half of the whole step.
        weights = (q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5).softmax(dim=-1)
        out = weights.to(v.dtype) @ v
        return self.proj(out.transpose(1, 2).reshape(b, n, c))


class LinearAttention(nn.Module):
    def __init__(self, width, heads, side):
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(width, 3 * width)
        self.dwc = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k = F.relu(q).float(), F.relu(k).float()
        state = k.transpose(-1, -2) @ v.float()
        total = k.sum(dim=-2)[..., None]
        out = (q @ state) / (q @ total + 1e-6)
        image = v.transpose(2, 3).reshape(b, c, self.side, self.side)
        local = self.dwc(image).reshape(b, c, n).transpose(1, 2)
        return self.proj(out.transpose(1, 2).reshape(b, n, c).to(local.dtype) + local)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulate(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self, width, attention):
        super().__init__()
        self.attn = attention
        self.mlp = Mlp(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        nn.init.zeros_(self.adaLN_modulation[1].weight)
        nn.init.zeros_(self.adaLN_modulation[1].bias)

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulate(x, shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(x, shift2, scale2))


class PatchEmbed(nn.Module):
    def __init__(self, channels, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class FinalLayer(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        for layer in (self.linear, self.adaLN_modulation[1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(x, shift, scale))


class DiT(nn.Module):
    def __init__(self, attention="softmax", heads=4, size=28, patch=4, channels=1, width=128, depth=6, classes=10):
        super().__init__()
        self.side, self.patch, self.channels, self.classes = size // patch, patch, channels, classes
        self.x_embedder = PatchEmbed(channels, patch, width)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(classes, width)
        self.register_buffer("pos_embed", sincos_positions(width, self.side))
        make = (lambda: SoftmaxAttention(width, heads)) if attention == "softmax" else (
            lambda: LinearAttention(width, heads, self.side))
        self.blocks = nn.ModuleList(Block(width, make()) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch * patch * 2 * channels)

    def forward(self, x, t, y):
        """x [B, C, S, S] -> noise and the variance's position between its bounds, [B, 2C, S, S]."""
        h = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(y)
        for block in self.blocks:
            h = block(h, c)
        h = self.final_layer(h, c)
        p, s = self.patch, self.side
        h = h.reshape(-1, s, s, p, p, 2 * self.channels)
        return torch.einsum("nhwpqc->nchpwq", h).reshape(-1, 2 * self.channels, s * p, s * p)
