"""SmolLM2 in plain PyTorch with a choice of token mixers, for training and measuring linearised forms on a CPU.

Forms (config.json of an adapter has the mathematics of "window"):
  full     causal softmax attention: the teacher
  sinks    the last `window` tokens and the first `sinks` tokens, nothing else
  window   the same, and what has left the window through a gated linear state, under one normaliser
  liger    half gated linear attention over everything, half the last `window` tokens (Lan et al. 2025)
  lolcats  the last `window` tokens, the others through feature maps softmax(xW), softmax(-xW) (Zhang et al. 2024)
"""
import contextlib
import math

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CHUNK = 64  # of the linear state; gates are at least -2, so exp(64) is the largest factor


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


def quick():
    """The type of large products: bf16 where the processor multiplies pairs of it, or it would take ten times as long as f32."""
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(can.get(n) for n in ('avx512_bf16', 'amx_bf16', 'bf16')) else torch.float32


def rope(c, positions):
    inverse = c['theta'] ** (-torch.arange(0, c['d'], 2, dtype=torch.float64) / c['d'])
    angle = positions.double()[:, None] * inverse
    return angle.cos().float(), angle.sin().float()


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Near(torch.autograd.Function):
    """Sums over keys of exp(q k^T / sqrt(d) - most) v and of the same without v, where `seen`; most is each row's largest score.

    Scores and exponents in f32, the other products in the values' type. Unless `exact`, `most` counts as a constant in
    the backward pass: right where what is made of the sums does not depend on it."""

    @staticmethod
    def forward(ctx, q, k, v, seen, exact):
        scale = q.shape[-1] ** -0.5
        scores = (q.float() * scale @ k.float().transpose(-1, -2)).masked_fill_(~seen, -math.inf)
        most = scores.amax(-1, keepdim=True).clamp_min_(-1e30)  # padded queries see nothing
        e = scores.sub_(most).exp_()
        total, e = e.sum(-1, keepdim=True), e.to(v.dtype)
        num, ctx.exact = e @ v, exact
        ctx.save_for_backward(q, k, v, e, num, total)
        if not exact:
            ctx.mark_non_differentiable(most)
        return num, total, most

    @staticmethod
    def backward(ctx, dnum, dtotal, dmost):
        q, k, v, e, num, total = ctx.saved_tensors
        dnum, scale = dnum.to(v.dtype), q.shape[-1] ** -0.5
        ds = (dnum @ v.transpose(-1, -2)).add_(dtotal.to(v.dtype)).mul_(e)
        if ctx.exact:
            top = (e == 1).float()
            down = (dnum.float() * num.float()).sum(-1, keepdim=True) + dtotal * total
            ds += (top * ((dmost - down) / top.sum(-1, keepdim=True).clamp_min(1))).to(ds.dtype)
        ds *= scale
        return ds @ k, ds.transpose(-1, -2) @ q, e.transpose(-1, -2) @ dnum, None, None


def near_sums(q, k, v, window, sinks, exact=False):
    """Near over the last `window` tokens and the first `sinks`; q [B, kv, group, T, d], k and v [B, kv, T, d].

    Queries go in blocks; a block's keys are its own, those of the blocks that its window reaches, and the sinks. Returns
    num and total [B, kv, group, T, d or 1], and most."""
    B, n_kv, group, T, d = q.shape
    size = window // 2 if window % 2 == 0 else window
    n, back = -(-T // size), window // size
    pad = lambda x: F.pad(x, (0, 0, 0, n * size - T))
    qb = pad(q).view(B, n_kv, group, n, size, d).transpose(2, 3).reshape(B, n_kv, n, group * size, d)

    def spread(x):
        blocks, first = pad(x).view(B, n_kv, n, size, d), x[:, :, None, :sinks].expand(-1, -1, n, -1, -1)
        return torch.cat([F.pad(blocks, (0, 0, 0, 0, m, 0))[:, :, :n] for m in range(back, -1, -1)] + [first], 3)

    i = torch.arange(n * size).view(n, size, 1)
    span = (back + 1) * size
    j = torch.cat([torch.arange(span).view(1, 1, -1) + (torch.arange(n) - back).view(n, 1, 1) * size,
                   torch.arange(min(sinks, T)).view(1, 1, -1).expand(n, 1, -1)], 2)
    near = (j > i - window) & (j <= i) & (j >= sinks)
    seen = torch.where(torch.arange(j.shape[2]) < span, near, j <= i).repeat(1, group, 1)
    join = lambda x: x.view(B, n_kv, n, group, size, -1).transpose(2, 3).reshape(B, n_kv, group, n * size, -1)[..., :T, :]
    return [join(x) for x in Near.apply(qb, spread(k), spread(v), seen, exact)]


def linear_state(q, k, v, g):
    """S <- diag(exp g) S + k v^T; o = S^T q, in chunks; q [B, H, group, T, F], k and g [B, H, T, F], v [B, H, T, V]."""
    B, H, group, T, _ = q.shape
    n = -(-T // CHUNK)
    cut = lambda x: F.pad(x, (0, 0, 0, n * CHUNK - T)).unflatten(-2, (n, CHUNK))
    q, k, v = cut(q), cut(k), cut(v)
    G = None if g is None else cut(g).cumsum(-2)
    if G is None:
        qs, ks, qo, kl, keep = q, k, q, k, None
    else:  # exponents relative to the chunk's middle: at most 2 CHUNK / 2
        middle, last = G[..., CHUNK // 2:CHUNK // 2 + 1, :], G[..., -1:, :]
        qs, ks = q * (G - middle).exp().unsqueeze(2), k * (middle - G).exp()
        qo, kl, keep = q * G.exp().unsqueeze(2), k * (last - G).exp(), last.exp().transpose(-1, -2)
    mask = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    added = kl.transpose(-1, -2) @ v
    state, states = torch.zeros_like(added[:, :, 0]), []
    for at in range(n):
        states.append(state)
        state = (state if keep is None else keep[:, :, at] * state) + added[:, :, at]
    states = torch.stack(states, 2)
    rows = lambda x: x.transpose(2, 3).flatten(3, 4)  # the group's queries under each other: k, v and state are shared
    inner = (rows(qs) @ ks.transpose(-1, -2)).masked_fill(~mask.repeat(group, 1), 0)
    out = inner @ v + rows(qo) @ states
    return out.view(B, H, n, group, CHUNK, -1).transpose(2, 3).flatten(3, 4)[..., :T, :]


def key(i, name):  # a ParameterDict takes no dots
    return ('layers.%d.%s' % (i, name)).replace('.', '/')


class Student(nn.Module):
    """Frozen SmolLM2 and the trained parts of a form. forward(ids [B, T]) -> logits [B, T, vocabulary].

    With dtype bfloat16 the large products are in it; norms, scores, sums, the linear state and the residual stay f32."""

    def __init__(self, gguf_path, form='full', window=128, sinks=4, rank=8, lora_scale=2.0, dtype=torch.float32):
        super().__init__()
        self.c, tensors, self.fields = read_gguf(gguf_path)
        self.form, self.window, self.sinks, self.scale, self.dtype = form, window, sinks, lora_scale, dtype
        c, d = self.c, self.c['d']
        for i in range(c['layers']):
            take = lambda *names: torch.cat([tensors.pop('layers.%d.%s' % (i, n)) for n in names])
            tensors['layers.%d.qkv' % i] = take('q_proj', 'k_proj', 'v_proj')
            tensors['layers.%d.gate_up' % i] = take('gate_proj', 'up_proj')
        for name, value in tensors.items():
            self.register_buffer(name.replace('.', '_'), value.to(dtype) if value.dim() == 2 else value)
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

    def project(self, i, weight, names, h):
        """h W^T and the LoRA pairs of the projections that lie in W under each other."""
        y = h @ self.w(i, weight).T
        if key(i, names[0] + '.lora_A') in self.extra:
            A = torch.cat([self.x(i, n + '.lora_A') for n in names]).to(h.dtype)
            B = (self.scale * torch.block_diag(*(self.x(i, n + '.lora_B') for n in names))).to(h.dtype)
            y = y + (h @ A.T) @ B.T
        return y

    def load_adapter(self, tensors):
        with torch.no_grad():
            for name, p in self.extra.items():
                p.copy_(tensors[name.replace('/', '.')].float())

    def adapter(self):
        return {name.replace('/', '.'): p.detach().clone() for name, p in self.extra.items()}

    def full(self, qr, kr, v, past=None, i=0):
        """Causal softmax attention of q [B, H, T, d] with rope; k and v [B, kv, T, d] join those of `past`."""
        if past is not None:
            if past[i] is not None:
                kr, v = torch.cat([past[i][0], kr], 2), torch.cat([past[i][1], v], 2)
            past[i] = (kr, v)
        many = lambda x: x.repeat_interleave(qr.shape[1] // x.shape[1], 1)
        return F.scaled_dot_product_attention(qr, many(kr), many(v), is_causal=qr.shape[2] > 1)

    # ---- the mixers: q [B, H, T, d] and k, v [B, kv, T, d] without rope -> [B, H, T, d]
    def mix(self, i, q, k, v, past=None):
        c, T = self.c, q.shape[2]
        start = 0 if past is None or past[i] is None else past[i][0].shape[2]
        cos, sin = rope(c, torch.arange(start, start + T))
        q, k = q.float(), k.float()
        qr, kr = turn(q, cos, sin), turn(k, cos, sin)
        if self.form == 'full':
            return self.full(qr.to(v.dtype), kr.to(v.dtype), v, past, i)
        B, n_kv, group = q.shape[0], c['kv'], c['heads'] // c['kv']
        grouped = lambda x: x.unflatten(1, (n_kv, group))
        sinks = 0 if self.form in ('liger', 'lolcats') else self.sinks
        num, total, most = near_sums(grouped(qr).to(v.dtype), kr.to(v.dtype), v, self.window, sinks, self.form == 'lolcats')
        num, v = num.float(), v.float()
        if self.form == 'sinks':
            return (num / total).flatten(1, 2)
        if self.form == 'liger':
            far = linear_state(grouped(q.softmax(-1)), k.softmax(-1), v, F.logsigmoid(k) / 16)
            return (0.5 * num / total + 0.5 * far).flatten(1, 2)
        # What left the window: token l enters when token l + window comes, so queries are shifted.
        old = max(T - self.window, 0)
        ones = torch.cat([v, v.new_ones(B, n_kv, T, 1)], -1)[:, :, :old]
        if self.form == 'lolcats':
            many = lambda x: x.repeat_interleave(group, 1)
            maps = lambda x, name: torch.einsum('bhtd,hdf->bhtf', x, self.x(i, name + '.mlp.layer'))
            phi = lambda y: torch.cat([y.softmax(-1), (-y).softmax(-1)], -1).clamp_min(1e-12)
            fq = phi(maps(qr[:, :, T - old:], 'feature_map_q'))[:, :, None]
            fk, g, ones = phi(maps(many(kr[:, :, :old]), 'feature_map_k')), None, many(ones)
        else:
            fq = grouped(torch.einsum('bhtd,hdf->bhtf', q[:, :, T - old:], self.x(i, 'feat_q')).softmax(-1))
            fk = torch.einsum('bhtd,hdf->bhtf', k[:, :, :old], self.x(i, 'feat_k')).softmax(-1)
            fk = fk * (torch.arange(old) >= self.sinks)[:, None]
            g = (F.logsigmoid(k[:, :, :old] + self.x(i, 'gate_bias')[:, None]) / 16).clamp_min(-2)
        far = linear_state(fq, fk, ones, g) if old else ones.new_zeros(B, n_kv, group, 0, c['d'] + 1)
        far = F.pad(far.reshape(B, n_kv, group, old, -1), (0, 0, T - old, 0))
        if self.form == 'lolcats':
            a, b = torch.sigmoid(self.x(i, 'window_factors')).view(1, n_kv, group, 1, 1), 1.0
        else:
            w = self.x(i, 'lin_bias_c')[:, None] + torch.einsum('bhtd,hd->bht', q, self.x(i, 'lin_gain_u'))
            w = grouped(w)[..., None]
            top = torch.maximum(most, w)
            a, b = (most - top).exp(), (w - top).exp()
        return ((a * num + b * far[..., :-1]) / (a * total + b * far[..., -1:])).flatten(1, 2)

    def heads(self, i, h):
        """q, k and v of a layer's normalised input, [B, heads, T, d] each."""
        y = self.project(i, 'qkv', ('q_proj', 'k_proj', 'v_proj'), h)
        y = y.view(*h.shape[:2], -1, self.c['d']).transpose(1, 2)
        return y.split([self.c['heads'], self.c['kv'], self.c['kv']], 1)

    def norm(self, x, w):
        return F.rms_norm(x, (x.shape[-1],), w, self.c['eps']).to(self.dtype)

    def after(self, i, x, o):
        """A layer's output from its input and its mixer's."""
        o = o.to(self.dtype).transpose(1, 2).flatten(2)
        x = x + self.project(i, 'o_proj', ('o_proj',), o)
        gate, up = (self.norm(x, self.w(i, 'post_attention_layernorm')) @ self.w(i, 'gate_up').T).chunk(2, -1)
        return x + (F.silu(gate) * up) @ self.w(i, 'down_proj').T

    def hidden(self, ids, past=None):
        """The last layer's output, normalised: logits are its product with the embedding."""
        x = self.token_embd[ids].float()
        for i in range(self.c['layers']):
            x = self.after(i, x, self.mix(i, *self.heads(i, self.norm(x, self.w(i, 'input_layernorm'))), past))
        return self.norm(x, self.output_norm)

    def forward(self, ids, past=None):
        return self.hidden(ids, past) @ self.token_embd.T


def teacher_layer(model, i, x):
    """q, k, v without rope (rounded as the teacher has them), its attention's output, and the layer's output."""
    with torch.no_grad(), bare(model):
        q, k, v = model.heads(i, model.norm(x, model.w(i, 'input_layernorm')))
        cos, sin = rope(model.c, torch.arange(x.shape[1]))
        o = model.full(turn(q.float(), cos, sin).to(v.dtype), turn(k.float(), cos, sin).to(v.dtype), v)
        return q, k, v, o, model.after(i, x, o)


@contextlib.contextmanager
def bare(model):
    """The model without its LoRA pairs: the teacher's weights."""
    extra, model.extra = model.extra, nn.ParameterDict()
    try:
        yield
    finally:
        model.extra = extra


def transfer(model, ids):
    """One sequence of attention transfer: gradients in the form's own parameters; returns the mean loss.

    The loss of a layer is the squared difference to the teacher's output per head, relative to its size, beyond the window."""
    x, total = model.token_embd[ids].float(), 0.0
    for i in range(model.c['layers']):
        q, k, v, o, x = teacher_layer(model, i, x)
        apart = (model.mix(i, q, k, v) - o.float())[:, :, model.window:].square().mean((0, 2, 3))
        loss = (apart / o.float().square().mean((0, 2, 3))).mean()
        loss.backward()
        total += loss.item() / model.c['layers']
    return total


@torch.no_grad()
def prepare(model, sequences, sharpness=2.0, rounds=8):
    """The window form's parameters before any training, from the teacher's keys and queries.

    feat_k sorts a key to the nearest of 64 prototypes (spherical k-means of the keys, the mean taken out); feat_q asks for a
    prototype as softmax attention would; the gate forgets little, so that a token counts 1,000 tokens later; the branch's
    bias gives it the weight that the tokens beyond the window have in the teacher."""
    c = model.c
    d, group, window, sinks = c['d'], c['heads'] // c['kv'], model.window, model.sinks
    xs = [model.token_embd[ids].float() for ids in sequences]
    for i in range(c['layers']):
        parts = [teacher_layer(model, i, x) for x in xs]
        xs = [p[-1] for p in parts]
        for n in range(c['kv']):
            k = torch.cat([p[1][0, n, sinks:].float() for p in parts])
            mean = k.mean(0)
            out = torch.eye(d) - torch.outer(mean, mean) / mean.square().sum()
            centred = k - mean
            unit = F.normalize(centred, dim=-1)
            centre = unit[torch.randperm(len(unit))[:d]]
            for _ in range(rounds):
                near = (unit @ centre.T).argmax(-1)
                sums = torch.zeros(d, d).index_add_(0, near, unit)
                centre = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), centre)
            near = (unit @ centre.T).argmax(-1)
            size = (centred * centre[near]).sum(-1).mean()  # how far along its prototype a key lies
            model.x(i, 'feat_k')[n] = (out @ centre.T) * (sharpness * math.sqrt(d) / centred.norm(dim=-1).mean())
            for h in range(group):
                model.x(i, 'feat_q')[n * group + h] = centre.T * size / math.sqrt(d)
            model.x(i, 'gate_bias')[n] = 6 - mean
        model.x(i, 'lin_gain_u').zero_()
        cos, sin = rope(c, torch.arange(max(x.shape[1] for x in xs)))
        bias = []
        for q, k, v, _, _ in parts:
            q, k, T = q[0].float(), k[0].float(), q.shape[2]
            at = torch.arange(window + 64, T, 8)
            scores = turn(q, cos[:T], sin[:T])[:, at] @ turn(k, cos[:T], sin[:T]).repeat_interleave(group, 0).transpose(1, 2)
            far = (torch.arange(T) <= at[:, None] - window) & (torch.arange(T) >= sinks)
            mass = (scores / math.sqrt(d)).masked_fill(~far, -math.inf).logsumexp(-1)
            fq = torch.einsum('htd,hdf->htf', q[:, at], model.x(i, 'feat_q')).softmax(-1)
            fk = torch.einsum('htd,hdf->htf', k, model.x(i, 'feat_k')).softmax(-1).repeat_interleave(group, 0)
            bias.append(mass - ((fq @ fk.transpose(1, 2)) * far).sum(-1).log())
        model.x(i, 'lin_bias_c').copy_(torch.cat(bias, -1).mean(-1))


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
