"""SmolLM2 in plain PyTorch with a choice of token mixers, for training and measuring linearised forms on a CPU.

Forms (config.json of an adapter has the mathematics of "window"):
  full     causal softmax attention: the teacher
  sinks    the last `window` tokens and the first `sinks` tokens, nothing else
  window   the same, and what has left the window through a gated linear state, under one normaliser
  liger    half gated linear attention over everything, half the last `window` tokens (Lan et al. 2025)
  lolcats  the last `window` tokens, the others through feature maps softmax(xW), softmax(-xW) (Zhang et al. 2024)
"""
import math

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
import torch.utils.checkpoint

CHUNK = 32  # of the linear state; gates are at least -2, so exp(32 * 2) is the largest factor


def read_gguf(path):
    """(config, tensors in Hugging Face names and row order, tokens, merges)."""
    reader = gguf.GGUFReader(path)
    fields = {n: f.contents() for n, f in reader.fields.items() if not n.startswith('GGUF.')}
    get = lambda key: fields['llama.' + key]
    c = dict(layers=get('block_count'), hidden=get('embedding_length'), heads=get('attention.head_count'),
             kv=get('attention.head_count_kv'), theta=float(get('rope.freq_base')),
             eps=float('%.6g' % get('attention.layer_norm_rms_epsilon')))
    c['d'] = c['hidden'] // c['heads']
    parts = {'attn_norm': 'input_layernorm', 'ffn_norm': 'post_attention_layernorm', 'attn_q': 'q_proj',
             'attn_k': 'k_proj', 'attn_v': 'v_proj', 'attn_output': 'o_proj', 'ffn_gate': 'gate_proj',
             'ffn_up': 'up_proj', 'ffn_down': 'down_proj'}
    tensors = {}
    for t in reader.tensors:
        value = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        value = value.reshape([int(n) for n in reversed(t.shape)])
        stem = t.name.removesuffix('.weight')
        if stem.startswith('blk.'):
            _, i, part = stem.split('.')
            if part in ('attn_q', 'attn_k'):  # llama.cpp turns neighbouring pairs, Hugging Face halves
                n = c['heads'] if part == 'attn_q' else c['kv']
                value = value.reshape(n, c['d'] // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
            stem = 'layers.%s.%s' % (i, parts[part])
        tensors[stem] = torch.from_numpy(np.ascontiguousarray(value))
    return c, tensors, fields


def rope(c, positions):
    inverse = c['theta'] ** (-torch.arange(0, c['d'], 2, dtype=torch.float64) / c['d'])
    angle = positions.double()[:, None] * inverse
    return angle.cos().float(), angle.sin().float()


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def norm(x, w, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def visible(q, k, v, window, sinks):
    """Scores of every query against its window and the sinks, [B, H, n, W, 2 W + sinks], and the values they belong to.

    Queries go in blocks of `window`; a block's keys are its own and the block before."""
    B, H, T, d = q.shape
    n = -(-T // window)
    pad = lambda x: F.pad(x, (0, 0, 0, n * window - T)).view(B, x.shape[1], n, window, -1)
    before = lambda x: torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], 2)
    qb, kb, vb = pad(q), pad(k), pad(v)
    first = lambda x: x[:, :, None, :sinks].expand(-1, -1, n, -1, -1)
    keys = torch.cat([before(kb), kb, first(k)], 3)
    values = torch.cat([before(vb), vb, first(v)], 3)
    i = torch.arange(n * window).view(n, window, 1)
    j = torch.cat([torch.arange(2 * window).view(1, 1, -1) + (torch.arange(n) - 1).view(n, 1, 1) * window,
                   torch.arange(min(sinks, T)).view(1, 1, -1).expand(n, 1, -1)], 2)
    near = (j > i - window) & (j <= i) & (j >= sinks)
    seen = torch.where(torch.arange(j.shape[2]) < 2 * window, near, j <= i)
    scores = qb @ keys.transpose(-1, -2) / math.sqrt(d)
    return scores.masked_fill(~seen, -math.inf), values


def linear_state(q, k, v, g):
    """S <- diag(exp g) S + k v^T; o = S^T q, in chunks; q [B, H, T, F], k and g [B, H, T, F], v [B, H, T, V]."""
    B, H, T, _ = q.shape
    state = q.new_zeros(B, H, k.shape[-1], v.shape[-1])
    mask = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    out = []
    for at in range(0, T, CHUNK):
        cut = slice(at, min(at + CHUNK, T))
        G = g[:, :, cut].cumsum(2)
        last = G[:, :, -1:]
        qs, ks = q[:, :, cut] * G.exp(), k[:, :, cut] * (-G).exp()
        n = G.shape[2]
        inner = (qs @ ks.transpose(-1, -2)).masked_fill(~mask[:n, :n], 0)
        out.append(qs @ state + inner @ v[:, :, cut])
        state = last.exp().transpose(-1, -2) * state + (k[:, :, cut] * (last - G).exp()).transpose(-1, -2) @ v[:, :, cut]
    return torch.cat(out, 2)


def key(i, name):  # a ParameterDict takes no dots
    return ('layers.%d.%s' % (i, name)).replace('.', '/')


class Student(nn.Module):
    """Frozen SmolLM2 and the trained parts of a form. forward(ids [B, T]) -> logits [B, T, vocabulary]."""

    def __init__(self, gguf_path, form='full', window=128, sinks=4, rank=8, lora_scale=2.0):
        super().__init__()
        self.c, tensors, self.fields = read_gguf(gguf_path)
        self.form, self.window, self.sinks, self.scale = form, window, sinks, lora_scale
        for name, value in tensors.items():
            self.register_buffer(name.replace('.', '_'), value)
        c, d = self.c, self.c['d']
        self.extra = nn.ParameterDict()
        if form in ('full',) or rank == 0:
            return
        outputs = {'q_proj': c['hidden'], 'k_proj': c['kv'] * d, 'v_proj': c['kv'] * d, 'o_proj': c['hidden']}
        make = lambda i, name, value: self.extra.__setitem__(key(i, name), nn.Parameter(value))
        for i in range(c['layers']):
            for name, n in outputs.items():
                make(i, name + '.lora_A', torch.randn(rank, c['hidden']) / math.sqrt(c['hidden']))
                make(i, name + '.lora_B', torch.zeros(n, rank))
            if form == 'window':
                make(i, 'feat_q', torch.eye(d).repeat(c['heads'], 1, 1))
                make(i, 'feat_k', torch.eye(d).repeat(c['kv'], 1, 1))
                make(i, 'gate_bias', torch.full((c['kv'], d), 2.0))
                make(i, 'lin_bias_c', torch.full((c['heads'],), -4.0))
                make(i, 'lin_gain_u', torch.zeros(c['heads'], d))
            if form == 'lolcats':
                make(i, 'feature_map_q.mlp.layer', torch.eye(d).repeat(c['heads'], 1, 1))
                make(i, 'feature_map_k.mlp.layer', torch.eye(d).repeat(c['heads'], 1, 1))
                make(i, 'window_factors', torch.full((1, c['heads'], 1, 1), -2.1972245773362196))

    def w(self, i, name):
        return getattr(self, 'layers_%d_%s' % (i, name))

    def x(self, i, name):
        return self.extra[key(i, name)]

    def project(self, i, name, h):
        y = h @ self.w(i, name).T
        if key(i, name + '.lora_A') in self.extra:
            y = y + self.scale * ((h @ self.x(i, name + '.lora_A').T) @ self.x(i, name + '.lora_B').T)
        return y

    def load_adapter(self, tensors):
        with torch.no_grad():
            for name, p in self.extra.items():
                p.copy_(tensors[name.replace('/', '.')].float())

    def adapter(self):
        return {name.replace('/', '.'): p.detach().clone() for name, p in self.extra.items()}

    # ---- the mixers: q [B, H, T, d] and k, v [B, kv, T, d] without rope -> [B, H, T, d]
    def mix(self, i, q, k, v, past=None):
        c, T = self.c, q.shape[2]
        start = 0 if past is None or past[i] is None else past[i][0].shape[2]
        cos, sin = rope(c, torch.arange(start, start + T))
        qr, kr = turn(q, cos, sin), turn(k, cos, sin)
        group = c['heads'] // c['kv']
        many = lambda x: x.repeat_interleave(group, 1)
        if self.form == 'full':
            if past is not None:
                if start:
                    kr, v = torch.cat([past[i][0], kr], 2), torch.cat([past[i][1], v], 2)
                past[i] = (kr, v)
            return F.scaled_dot_product_attention(qr, many(kr), many(v), is_causal=T > 1)
        B, H, d = q.shape[0], c['heads'], c['d']
        sinks = 0 if self.form in ('liger', 'lolcats') else self.sinks
        scores, values = visible(qr, many(kr), many(v), self.window, sinks)
        flat = lambda x: x.reshape(B, H, -1, x.shape[-1])[:, :, :T]
        most = scores.amax(-1, keepdim=True).clamp_min(-1e30)  # padded queries see nothing
        if self.form in ('sinks', 'liger'):
            near = flat(scores.sub(most).exp() @ values) / flat(scores.sub(most).exp().sum(-1, keepdim=True))
            if self.form == 'sinks':
                return near
            far = linear_state(q.softmax(-1), many(k.softmax(-1)), many(v), many(F.logsigmoid(k) / 16))
            return 0.5 * near + 0.5 * far
        # What left the window: token l enters when token l + window comes, so queries are shifted.
        old = max(T - self.window, 0)
        shifted = lambda x: F.pad(x, (0, 0, T - old, 0))
        if self.form == 'lolcats':
            maps = lambda x, name: torch.einsum('bhtd,hdf->bhtf', x, self.x(i, name + '.mlp.layer'))
            phi = lambda y: torch.cat([y.softmax(-1), (-y).softmax(-1)], -1).clamp_min(1e-12)
            fq, fk = phi(maps(qr, 'feature_map_q')), phi(maps(many(kr), 'feature_map_k'))
            g, w = torch.zeros_like(fk), None
        else:
            fq = torch.einsum('bhtd,hdf->bhtf', q, self.x(i, 'feat_q')).softmax(-1)
            fk = torch.einsum('bhtd,hdf->bhtf', k, self.x(i, 'feat_k')).softmax(-1)
            fk = many(fk * (torch.arange(T) >= self.sinks)[:, None])
            g = many((F.logsigmoid(k + self.x(i, 'gate_bias')[:, None]) / 16).clamp_min(-2))
            w = self.x(i, 'lin_bias_c')[:, None] + torch.einsum('bhtd,hd->bht', q, self.x(i, 'lin_gain_u'))
        ones = torch.cat([many(v), v.new_ones(B, H, T, 1)], -1)
        far = shifted(linear_state(fq[:, :, T - old:], fk[:, :, :old], ones[:, :, :old], g[:, :, :old])) \
            if old else torch.zeros_like(ones)
        m = flat(most)
        if w is None:
            top, a, b = m, torch.sigmoid(self.x(i, 'window_factors')), 1.0
        else:
            top = torch.maximum(m, w[..., None])
            a, b = 1.0, (w[..., None] - top).exp()
        e = scores.sub(F.pad(top, (0, 0, 0, scores.shape[2] * self.window - T)).view(B, H, -1, self.window, 1)).exp()
        num = a * flat(e @ values) + b * far[..., :d]
        return num / (a * flat(e.sum(-1, keepdim=True)) + b * far[..., d:])

    def layer(self, i, x, past=None):
        c, B, T = self.c, x.shape[0], x.shape[1]
        h = norm(x, self.w(i, 'input_layernorm'), c['eps'])
        heads = lambda y: y.view(B, T, -1, c['d']).transpose(1, 2)
        o = self.mix(i, *(heads(self.project(i, n, h)) for n in ('q_proj', 'k_proj', 'v_proj')), past)
        x = x + self.project(i, 'o_proj', o.transpose(1, 2).reshape(B, T, -1))
        h = norm(x, self.w(i, 'post_attention_layernorm'), c['eps'])
        return x + (F.silu(h @ self.w(i, 'gate_proj').T) * (h @ self.w(i, 'up_proj').T)) @ self.w(i, 'down_proj').T

    def forward(self, ids, past=None, remember=False):
        x = self.token_embd[ids]
        for i in range(self.c['layers']):
            if remember:  # recompute in the backward pass: memory stays small
                x = torch.utils.checkpoint.checkpoint(self.layer, i, x, use_reentrant=False)
            else:
                x = self.layer(i, x, past)
        return norm(x, self.output_norm, self.c['eps']) @ self.token_embd.T


def tokenizer(fields):
    """The tokenizer of the GGUF file."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, decoders
    g = lambda k: fields['tokenizer.ggml.' + k]
    vocab = {t: i for i, t in enumerate(g('tokens'))}
    tok = tokenizers.Tokenizer(models.BPE(vocab, [tuple(m.split(' ')) for m in g('merges')]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([t for t, kind in zip(g('tokens'), g('token_type')) if kind == 3])
    return tok
