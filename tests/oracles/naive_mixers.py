"""Recurrent token mixers written down as their formulas say, one token after the other, in the dtype they are given.

A second opinion, independent of every kernel library and of the runtime: no chunks, no fusion, no caches. Tensors are
[T, heads, channels]; a state is [heads, K, V] with write k v^T and read S^T q. naive_models.py builds language models
from these, and holds itself to the official goldens.
"""
import math

import torch
import torch.nn.functional as F


# ---------------------------------------------------------------------------------------------------- small parts
def rms_norm(x, weight=None, eps=1e-6):
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


def layer_norm(x, weight, bias, eps):
    x = x - x.mean(-1, keepdim=True)
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * weight + bias


def l2_norm(x):
    return x / torch.sqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def repeat_heads(x, heads):
    """Consecutive repeat: query head i reads key head i // (heads / key heads)."""
    return x.repeat_interleave(heads // x.shape[1], 1)


def rotate(x, theta):
    """Rotary embedding of all channels, halves (i, i + d/2), position = row."""
    d = x.shape[-1]
    frequency = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)
    a, b = x[..., :d // 2], x[..., d // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def causal_conv(x, weight, bias=None):
    """Depthwise, [T, D] with weight [D, 1, W]; the last tap multiplies the current token. No activation."""
    width = weight.shape[-1]
    padded = torch.cat([x.new_zeros(width - 1, x.shape[1]), x])
    y = sum(padded[i:i + x.shape[0]] * weight[:, 0, i] for i in range(width))
    return y if bias is None else y + bias


def softmax_attention(q, k, v, window=None, scale=None):
    """Causal, [T, H, d]; with a window the token itself and the window - 1 before it."""
    k, v = repeat_heads(k, q.shape[1]), repeat_heads(v, q.shape[1])
    scores = torch.einsum('ihd,jhd->hij', q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    i, j = torch.arange(q.shape[0])[:, None], torch.arange(q.shape[0])[None]
    hidden = (j > i) | ((j <= i - window) if window else torch.zeros_like(j > i))
    return torch.einsum('hij,jhd->ihd', scores.masked_fill(hidden, -math.inf).softmax(-1), v)


# ---------------------------------------------------------------------------------------------------- recurrences
def gated_linear(q, k, v, log_decay, scale):
    """S <- diag(exp g) S + k v^T; o = S^T q scale. log_decay [T, H, K] or [T, H, 1]."""
    state = q.new_zeros(q.shape[1], q.shape[2], v.shape[2])
    out = []
    for t in range(q.shape[0]):
        state = state * log_decay[t].exp()[..., None] + k[t][..., None] * v[t][:, None]
        out.append(torch.einsum('hkv,hk->hv', state, q[t] * scale))
    return torch.stack(out)


def gated_slots(q, k, v, write, log_decay):
    """Gated slot attention: two recurrences over slots that share decay and write. write, log_decay [T, H, slots]."""
    keys = q.new_zeros(q.shape[1], q.shape[2], write.shape[2])
    values = q.new_zeros(q.shape[1], write.shape[2], v.shape[2])
    out = []
    for t in range(q.shape[0]):
        decay = log_decay[t].exp()
        keys = keys * decay[:, None] + k[t][..., None] * write[t][:, None]
        values = values * decay[..., None] + write[t][..., None] * v[t][:, None]
        out.append(torch.einsum('hmv,hm->hv', values, torch.einsum('hkm,hk->hm', keys, q[t]).softmax(-1)))
    return torch.stack(out)


def gated_delta(q, k, v, log_decay, beta, scale):
    """S <- diag(exp g) S; S <- S + k (beta (v - S^T k))^T; o = S^T q scale. beta [T, H, 1]."""
    state = q.new_zeros(q.shape[1], q.shape[2], v.shape[2])
    out = []
    for t in range(q.shape[0]):
        state = state * log_decay[t].exp()[..., None]
        wrong = v[t] - torch.einsum('hkv,hk->hv', state, k[t])
        state = state + k[t][..., None] * (beta[t] * wrong)[:, None]
        out.append(torch.einsum('hkv,hk->hv', state, q[t] * scale))
    return torch.stack(out)


def rwkv7(r, log_decay, k, v, kk, a):
    """S <- diag(exp w) S - (kk a) (kk^T S) + k v^T, the removal reading the state before its decay; o = S^T r."""
    state = r.new_zeros(r.shape[1], r.shape[2], v.shape[2])
    out = []
    for t in range(r.shape[0]):
        removed = torch.einsum('hkv,hk->hv', state, kk[t])
        state = (state * log_decay[t].exp()[..., None] - (kk[t] * a[t])[..., None] * removed[:, None]
                 + k[t][..., None] * v[t][:, None])
        out.append(torch.einsum('hkv,hk->hv', state, r[t]))
    return torch.stack(out)


def window_and_linear(q, k, v, feature_q, feature_k, factor, window, eps):
    """LoLCATs: softmax over the last `window` keys and linear attention over the older ones, one normaliser. The
    window's scores are taken relative to their maximum, the linear part is not: that is the trained function."""
    linear_state = q.new_zeros(q.shape[1], feature_k.shape[-1], v.shape[-1])
    linear_sum = q.new_zeros(q.shape[1], feature_k.shape[-1])
    out = []
    for t in range(q.shape[0]):
        if t >= window:
            gone = t - window
            linear_state = linear_state + feature_k[gone][..., None] * v[gone][:, None]
            linear_sum = linear_sum + feature_k[gone]
        near = slice(max(0, t - window + 1), t + 1)
        scores = torch.einsum('hd,jhd->hj', q[t], k[near]) * q.shape[-1] ** -0.5
        weights = factor[:, None] * (scores - scores.max(-1, keepdim=True).values).exp()
        above = torch.einsum('hj,jhd->hd', weights, v[near]) + torch.einsum('hf,hfv->hv', feature_q[t], linear_state)
        below = weights.sum(-1, keepdim=True) + torch.einsum('hf,hf->h', feature_q[t], linear_sum)[:, None] + eps
        out.append(above / below)
    return torch.stack(out)


def window_and_gated_state(q, k, turned_q, turned_k, v, feature_q, feature_k, log_decay, log_weight, window, sinks):
    """Softmax over the last `window` keys and the first `sinks`; what else was seen is in a gated state that the token
    `window` back enters. log_weight [T, H] is the state's score beside the keys': all under one normaliser."""
    state = q.new_zeros(q.shape[1], feature_k.shape[-1], v.shape[-1])
    total = q.new_zeros(q.shape[1], feature_k.shape[-1])
    out = []
    for t in range(q.shape[0]):
        gone = t - window
        if gone >= sinks:
            decay = log_decay[gone].exp()
            state = state * decay[..., None] + feature_k[gone][..., None] * v[gone][:, None]
            total = total * decay + feature_k[gone]
        seen = [j for j in range(t + 1) if j > gone or j < sinks]
        scores = torch.einsum('hd,jhd->hj', turned_q[t], turned_k[seen]) * q.shape[-1] ** -0.5
        top = torch.maximum(scores.max(-1).values, log_weight[t])
        near, far = (scores - top[:, None]).exp(), (log_weight[t] - top).exp()[:, None]
        above = torch.einsum('hj,jhd->hd', near, v[seen]) + far * torch.einsum('hf,hfv->hv', feature_q[t], state)
        below = near.sum(-1, keepdim=True) + far * (feature_q[t] * total).sum(-1, keepdim=True)
        out.append(above / below)
    return torch.stack(out)


def hedgehog(x, linears):
    """softmax(x W) and softmax(-x W) side by side, one W [F, d] a head. x [T, H, d] -> [T, H, 2F]."""
    y = torch.einsum('thd,hfd->thf', x, linears)
    return torch.cat([y.softmax(-1), (-y).softmax(-1)], -1)


def silu(x):
    return F.silu(x)
