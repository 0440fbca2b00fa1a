"""Language models of the recurrent families built from naive_mixers.py, reading config.json and tensors under the names
of the published checkpoints (flash-linear-attention; Linearization for Liger and LoLCATs).

usage: naive_models.py CASE_DIR...     the largest difference to the stored official logits of each case
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
from safetensors import safe_open

import naive_mixers as nm


def load_folder(folder):
    """(config, tensors as stored)."""
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as f:
        config = json.load(f)
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith('.safetensors'):
            with safe_open(os.path.join(folder, name), 'pt') as s:
                tensors.update({k: s.get_tensor(k) for k in s.keys()})
    return config, tensors


class NaiveModel:
    """logits(ids [T]) -> [T, vocab] in `dtype`."""

    def __init__(self, config, tensors, dtype=torch.float64, window=64):
        self.c = config
        self.w = {k: v.to(dtype) for k, v in tensors.items()}
        self.kind = config['model_type']
        self.window = window  # of Liger and LoLCATs, whose configs do not state it
        self.eps = config.get('rms_norm_eps', config.get('norm_eps', 1e-6))
        self.mixer = getattr(self, 'mix_' + self.kind)
        self.gaps = []  # of the routing: the last chosen score minus the first refused, least of each layer

    # ------------------------------------------------------------------------------------------ access by prefix
    def lin(self, name, x):
        y = x @ self.w[name + '.weight'].T
        return y + self.w[name + '.bias'] if name + '.bias' in self.w else y

    def heads(self, name, x, heads):
        return self.lin(name, x).reshape(x.shape[0], heads, -1)

    def conv(self, name, x, activate=True):
        y = nm.causal_conv(x, self.w[name + '.weight'], self.w.get(name + '.bias'))
        return F.silu(y) if activate else y

    def norm(self, name, x, eps=None):
        if name + '.bias' in self.w:
            return nm.layer_norm(x, self.w[name + '.weight'], self.w[name + '.bias'], self.eps if eps is None else eps)
        return nm.rms_norm(x, self.w[name + '.weight'], self.eps if eps is None else eps)

    # ------------------------------------------------------------------------------------------------ the stack
    def logits(self, ids):
        llama_names = 'model.embed_tokens.weight' in self.w
        embedding = self.w['model.embed_tokens.weight' if llama_names else 'model.embeddings.weight']
        h, self.v_first = embedding[ids], None
        for i in range(self.c['num_hidden_layers']):
            p = 'model.layers.%d.' % i
            if p + 'pre_norm.weight' in self.w:
                h = self.norm(p + 'pre_norm', h)
            names = (('input_layernorm', 'self_attn', 'post_attention_layernorm') if llama_names else
                     ('attn_norm', 'attn', 'ffn_norm' if self.kind == 'rwkv7' else 'mlp_norm'))
            hybrid = self.c.get('attn') or {}
            mix = self.mix_softmax if i in hybrid.get('layers', ()) else self.mixer
            h = h + mix(p + names[1] + '.', self.norm(p + names[0], h), i)
            h = h + self.channel_mix(p, self.norm(p + names[2], h))
        h = self.norm('model.norm', h)
        return h @ self.w.get('lm_head.weight', embedding).T

    def channel_mix(self, p, x):
        if self.kind == 'rwkv7':
            x = x + (self.shift(x) - x) * self.w[p + 'ffn.x_k'].reshape(-1)
            return self.lin(p + 'ffn.value', F.relu(self.lin(p + 'ffn.key', x)) ** 2)
        gate = self.lin(p + 'mlp.gate_proj', x)
        if p + 'mlp.up_proj.weight' not in self.w:  # before 2025-02: gate rows, then up rows, in one matrix
            gate, up = gate.chunk(2, -1)
        else:
            up = self.lin(p + 'mlp.up_proj', x)
        return self.lin(p + 'mlp.down_proj', F.silu(gate) * up)

    @staticmethod
    def shift(x):
        return torch.cat([torch.zeros_like(x[:1]), x[:-1]])

    # ------------------------------------------------------------------------------------------------ the mixers
    def mix_softmax(self, p, x, layer):
        """A plain attention layer between recurrent ones."""
        a = self.c['attn']
        heads, kv = a['num_heads'], a.get('num_kv_heads') or a['num_heads']
        q, k, v = (self.heads(p + n, x, h) for n, h in (('q_proj', heads), ('k_proj', kv), ('v_proj', kv)))
        theta = a.get('rope_theta', 10000.0)
        o = nm.softmax_attention(nm.rotate(q, theta), nm.rotate(k, theta), v, a.get('window_size'))
        return self.lin(p + 'o_proj', o.reshape(x.shape[0], -1))

    def qkv(self, p, x):
        """Projections, through short convolutions with SiLU where the checkpoint has them. [T, channels] each."""
        out = []
        for n in 'qkv':
            y = self.lin(p + n + '_proj', x)
            out.append(self.conv(p + n + '_conv1d', y) if p + n + '_conv1d.weight' in self.w else y)
        return out

    def gated_output(self, p, o, x, gate=F.silu):
        """RMS norm per head, times the gate where there is one, output projection."""
        name = next(n for n in ('g_norm_swish_gate', 'g_norm', 'o_norm') if p + n + '.weight' in self.w)
        y = nm.rms_norm(o, self.w[p + name + '.weight'], self.eps).reshape(x.shape[0], -1)
        if p + 'g_proj.1.weight' in self.w:
            y = y * gate(self.lin(p + 'g_proj.1', self.lin(p + 'g_proj.0', x)))
        elif p + 'g_proj.weight' in self.w:
            y = y * gate(self.lin(p + 'g_proj', x))
        return self.lin(p + 'o_proj', y)

    def linear_heads(self, p, x):
        q, k, v = self.qkv(p, x)
        heads = self.c['num_heads']
        kv = self.c.get('num_kv_heads') or heads
        rows = x.shape[0]
        return (q.reshape(rows, heads, -1), nm.repeat_heads(k.reshape(rows, kv, -1), heads),
                nm.repeat_heads(v.reshape(rows, kv, -1), heads), heads, kv)

    def mix_gla(self, p, x, layer):
        q, k, v, heads, kv = self.linear_heads(p, x)
        g = F.logsigmoid(self.lin(p + 'gk_proj.1', self.lin(p + 'gk_proj.0', x))) / 16
        if self.c.get('clamp_min') is not None:
            g = g.clamp(min=self.c['clamp_min'])
        g = nm.repeat_heads(g.reshape(x.shape[0], kv, -1), heads)
        return self.gated_output(p, nm.gated_linear(q, k, v, g, q.shape[-1] ** -0.5), x)

    def mix_simple_gla(self, p, x, layer):
        q, k, v, heads, _ = self.linear_heads(p, x)
        g = F.logsigmoid(self.lin(p + 'gk_proj', x))[..., None] / 16
        return self.gated_output(p, nm.gated_linear(q, k, v, g, q.shape[-1] ** -0.5), x)

    def mix_retnet(self, p, x, layer):
        q, k, v, heads, _ = self.linear_heads(p, x)
        q, k = nm.rotate(q, 10000.0), nm.rotate(k, 10000.0)
        g = torch.log(1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64))).to(x.dtype)
        o = nm.gated_linear(q, k, v, g[None, :, None].expand(x.shape[0], heads, 1), q.shape[-1] ** -0.5)
        return self.gated_output(p, o, x)

    def mix_hgrn2(self, p, x, layer):
        heads = self.c['num_heads'] or self.c['hidden_size'] // self.c['expand_ratio']
        q, f, i = F.silu(self.lin(p + 'q_proj', x)), torch.sigmoid(self.lin(p + 'f_proj', x)), self.lin(p + 'i_proj', x)
        if self.c['use_lower_bound']:
            share = self.w['model.lower_bounds'].softmax(0).cumsum(0)
            low = share[layer] - share[0]
            f = low + (1 - low) * f
        q, f, v = (y.reshape(x.shape[0], heads, -1) for y in (q, f, i))
        o = nm.gated_linear(q, 1 - f, v, f.log(), q.shape[-1] ** -0.5)
        return self.lin(p + 'o_proj', self.norm(p + 'g_norm', o.reshape(x.shape[0], -1), 1e-5))

    def mix_delta_net(self, p, x, layer):
        heads = self.c['num_heads']
        q, k, v = (y.reshape(x.shape[0], heads, -1) for y in self.qkv(p, x))
        q, k = nm.l2_norm(q), nm.l2_norm(k)
        beta = self.beta(p, x)
        o = nm.gated_delta(q, k, v, torch.zeros_like(beta), beta, q.shape[-1] ** -0.5)
        return self.gated_output(p, o, x)

    def beta(self, p, x, name='b_proj'):
        return torch.sigmoid(self.lin(p + name, x))[..., None] * (2 if self.c.get('allow_neg_eigval') else 1)

    def softplus_decay(self, p, a):
        return -self.w[p + 'A_log'].exp() * F.softplus(a + self.w[p + 'dt_bias'], threshold=1e9)

    def mix_gated_deltanet(self, p, x, layer):
        heads, v_heads = self.c['num_heads'], self.c.get('num_v_heads') or self.c['num_heads']
        q, k, v = self.qkv(p, x)
        q, k = (nm.repeat_heads(nm.l2_norm(y.reshape(x.shape[0], heads, -1)), v_heads) for y in (q, k))
        g = self.softplus_decay(p, self.lin(p + 'a_proj', x))[..., None]
        o = nm.gated_delta(q, k, v.reshape(x.shape[0], v_heads, -1), g, self.beta(p, x), q.shape[-1] ** -0.5)
        return self.gated_output(p, o, x)

    def mix_kda(self, p, x, layer):
        heads, v_heads = self.c['num_heads'], self.c.get('num_v_heads') or self.c['num_heads']
        q, k, v = self.qkv(p, x)
        q, k = (nm.repeat_heads(nm.l2_norm(y.reshape(x.shape[0], heads, -1)), v_heads) for y in (q, k))
        f = self.lin(p + 'f_proj.1', self.lin(p + 'f_proj.0', x)) + self.w[p + 'dt_bias']
        f = f.reshape(x.shape[0], v_heads, -1)
        rate = self.w[p + 'A_log'].exp().reshape(-1, 1)
        low = self.c.get('lower_bound')
        g = -rate * F.softplus(f, threshold=1e9) if low is None else low * torch.sigmoid(rate * f)
        o = nm.gated_delta(q, k, v.reshape(x.shape[0], v_heads, -1), g, self.beta(p, x), q.shape[-1] ** -0.5)
        return self.gated_output(p, o, x, torch.sigmoid)

    def mix_mom(self, p, x, layer):
        """Every memory is a gated delta rule over the tokens routed to it, with a convolution over those tokens."""
        heads, top = self.c['num_heads'], self.c['topk']
        route = self.lin(p + 'gate', x).softmax(-1)
        best = route.topk(top, -1)
        if top < route.shape[-1]:
            order = route.sort(-1, descending=True).values
            self.gaps.append(float((order[:, top - 1] - order[:, top]).min()))
        share = torch.zeros_like(route).scatter(1, best.indices, best.values / best.values.sum(-1, keepdim=True))
        q_raw = self.lin(p + 'q_proj', x)

        def memory(rows, k_raw, v_raw, a_raw, b_raw):
            q, k, v = (self.conv(p + n + '_conv1d', y).reshape(len(rows), heads, -1)
                       for n, y in (('q', q_raw[rows]), ('k', k_raw), ('v', v_raw)))
            g = self.softplus_decay(p, a_raw)[..., None]
            return nm.gated_delta(nm.l2_norm(q), nm.l2_norm(k), v, g, torch.sigmoid(b_raw)[..., None],
                                  q.shape[-1] ** -0.5)

        out = 0
        for m in range(self.c['num_memories']):
            rows = torch.nonzero(share[:, m] > 0).reshape(-1)
            if len(rows) == 0:
                continue
            stem = 'shared_%s' if self.c.get('single_kv_proj') else '%%s_proj.%d' % m
            parts = [self.lin(p + stem % n, x[rows]) for n in 'kvab']
            o = memory(rows, *parts)
            out = out + torch.zeros(x.shape[0], *o.shape[1:], dtype=x.dtype).index_copy(
                0, rows, o * share[rows, m][:, None, None])
        if self.c['shared_mem']:
            out = out + memory(torch.arange(x.shape[0]), *(self.lin(p + 'shared_' + n, x) for n in 'kvab'))
        return self.gated_output(p, out, x)

    def mix_rwkv7(self, p, x, layer):
        rows, width = x.shape
        heads = self.c.get('num_heads') or width // self.c['head_dim']
        delta = self.shift(x) - x
        mixed = {n: x + delta * self.w[p + 'x_' + n].reshape(-1) for n in 'rwkvag'}
        split = lambda y: y.reshape(rows, heads, -1)

        def lora(name, inner):
            return self.lin(p + name + '_lora.lora.2', inner(self.lin(p + name + '_lora.lora.0', mixed[name])))

        r, k, v = (self.lin(p + n + '_proj', mixed[n]) for n in 'rkv')
        w = -0.6065306597126334 * torch.sigmoid(lora('w', torch.tanh))
        a = torch.sigmoid(lora('a', lambda y: y))
        gate = lora('g', torch.sigmoid)
        if layer == 0:
            self.v_first = v
        else:
            v = v + (self.v_first - v) * torch.sigmoid(lora('v', lambda y: y))
        kk = F.normalize(split(k * self.w[p + 'k_k'].reshape(-1)), dim=-1)
        k = k * (1 + (a - 1) * self.w[p + 'k_a'].reshape(-1))
        o = nm.rwkv7(split(r), split(w), split(k), split(v), kk, split(a))
        eps = o.shape[-1] * self.eps
        o = o - o.mean(-1, keepdim=True)
        o = (o / torch.sqrt(o.square().mean(-1, keepdim=True) + eps)).reshape(rows, -1)
        o = o * self.w[p + 'g_norm.weight'] + self.w[p + 'g_norm.bias']
        bonus = (split(r) * split(k) * self.w[p + 'r_k']).sum(-1, keepdim=True) * split(v)
        return self.lin(p + 'o_proj', (o + bonus.reshape(rows, -1)) * gate)

    def llama_heads(self, p, x):
        heads, kv = self.c['num_attention_heads'], self.c['num_key_value_heads']
        q, k, v = (self.heads(p + n, x, h) for n, h in (('q_proj', heads), ('k_proj', kv), ('v_proj', kv)))
        return q, k, v, heads

    def mix_liger_gla(self, p, x, layer):
        q, k, v, heads = self.llama_heads(p, x)
        g = nm.repeat_heads(F.logsigmoid(k) / 16, heads)
        o = nm.gated_linear(q.softmax(-1), nm.repeat_heads(k.softmax(-1), heads), nm.repeat_heads(v, heads), g, 1.0)
        theta = self.c['rope_theta']
        near = nm.softmax_attention(nm.rotate(q, theta), nm.rotate(k, theta), v, self.window)
        return self.lin(p + 'o_proj', (0.5 * o + 0.5 * near).reshape(x.shape[0], -1))

    def liger_halves(self, p, x, q, k, v, far):
        theta = self.c['rope_theta']
        near = nm.softmax_attention(nm.rotate(q, theta), nm.rotate(k, theta), v, self.window)
        return self.lin(p + 'o_proj', (0.5 * far + 0.5 * near).reshape(x.shape[0], -1))

    mix_liger_qwen2_gla = mix_liger_gla

    def mix_liger_hgrn2(self, p, x, layer):
        q, k, v, heads = self.llama_heads(p, x)
        f = torch.sigmoid(nm.repeat_heads(k, heads))
        o = nm.gated_linear(q.softmax(-1), 1 - f, nm.repeat_heads(v, heads), f.log(), 1.0)
        return self.liger_halves(p, x, q, k, v, o)

    def mix_liger_gsa(self, p, x, layer):
        """Slots: k is written to the slots and read by q, v is read from the slots by the softmax of that."""
        q, k, v, heads = self.llama_heads(p, x)
        kv = k.shape[1]
        pooled = F.adaptive_avg_pool1d(k.reshape(1, x.shape[0], -1), self.c['pool_size'] * kv)[0]
        g = nm.repeat_heads(F.logsigmoid(pooled.reshape(x.shape[0], kv, -1)) / 16, heads)
        s, many = 1 - g.exp(), lambda y: nm.repeat_heads(y, heads)
        return self.liger_halves(p, x, q, k, v, nm.gated_slots(q, many(k), many(v), s, g))

    def mix_linear_attn(self, p, x, layer):
        heads, rows = self.c['num_heads'], x.shape[0]
        kv = self.c.get('num_kv_heads') or heads
        q, k, v = (self.lin(p + n + '_proj', x).reshape(rows, h, -1) for n, h in (('q', heads), ('k', kv), ('v', kv)))
        features = []
        for n, y in (('q', q), ('k', k)):
            name = self.c['feature_map']
            f = p + 'feature_map_%s.' % ('q' if self.c['tie_feature_map_qk'] else n)
            if name == 'elementwise_product':
                y = (y @ self.w[f + 'layer1.weight'].T + self.w[f + 'layer1.bias']) * \
                    (y @ self.w[f + 'layer2.weight'].T + self.w[f + 'layer2.bias'])
            elif name == 'hedgehog':
                y = 2 * (y @ self.w[f + 'layer.weight'].T + self.w[f + 'layer.bias'])
                y = torch.cat([y, -y], -1).softmax(-1)
            elif name == 't2r':
                y = (y @ self.w[f + 'layer.weight'].T).relu()
            elif name == 'elu':
                y = F.elu(y) + 1
            elif name == 'relu':
                y = y.relu()
            if self.c['norm_' + n]:
                y = y / (y.sum(-1, keepdim=True) + 1e-4)
            features.append(y)
        q, k, v = features[0], nm.repeat_heads(features[1], heads), nm.repeat_heads(v, heads)
        scale = q.shape[-1] ** -0.5
        o = nm.gated_linear(q, k, v, torch.zeros_like(k), scale)
        if self.c['norm_feature_map']:
            o = o / ((q * scale * k.cumsum(0)).sum(-1, keepdim=True) + 1e-10)
        y = nm.rms_norm(o, self.w[p + 'norm.weight'], self.eps).reshape(rows, -1)
        return self.lin(p + 'o_proj', y)

    def mix_window_linear_llama(self, p, x, layer):
        q, k, v, heads = self.llama_heads(p, x)
        theta, many = self.c['rope_theta'], lambda y: nm.repeat_heads(y, heads)
        fq = torch.einsum('thd,hdf->thf', q, self.w[p + 'feature_q']).softmax(-1)
        fk = torch.einsum('thd,hdf->thf', k, self.w[p + 'feature_k']).softmax(-1)
        g = (F.logsigmoid(k + self.w[p + 'gate_bias']) / self.c['gate_divisor']).clamp(min=self.c['gate_minimum'])
        w = self.w[p + 'linear_bias'] + (q * self.w[p + 'linear_gain']).sum(-1)
        o = nm.window_and_gated_state(q, k, nm.rotate(q, theta), many(nm.rotate(k, theta)), many(v), fq, many(fk), many(g),
                                      w, self.c['window'], self.c['sinks'])
        return self.lin(p + 'o_proj', o.reshape(x.shape[0], -1))

    def mix_lolcats(self, p, x, layer):
        q, k, v, heads = self.llama_heads(p, x)
        theta = self.c['rope_theta']
        q, k, v = nm.rotate(q, theta), nm.repeat_heads(nm.rotate(k, theta), heads), nm.repeat_heads(v, heads)
        maps = [torch.stack([self.w[p + 'feature_map_%s.mlp.linears.%d.weight' % (n, h)] for h in range(heads)])
                for n in 'qk']
        factor = torch.sigmoid(self.w[p + 'window_factors'].reshape(-1))
        o = nm.window_and_linear(q, k, v, nm.hedgehog(q, maps[0]), nm.hedgehog(k, maps[1]), factor, self.window, 1e-6)
        return self.lin(p + 'o_proj', o.reshape(x.shape[0], -1))


def main():
    from safetensors.torch import load_file
    for case in sys.argv[1:]:
        reference = load_file(os.path.join(case, 'reference.safetensors'))
        config, tensors = load_folder(os.path.join(case, 'model'))
        model = NaiveModel(config, tensors, window=65 if config['model_type'] == 'liger_gla' else 64)
        got = model.logits(reference['input_ids'][0])
        keep = reference.get('positions', torch.arange(got.shape[0]))
        print('%-24s max abs %.2e' % (os.path.basename(os.path.normpath(case)),
                                      float((got[keep] - reference['logits'][0]).abs().max())))
        if 'long_input_ids' in reference:
            got = model.logits(reference['long_input_ids'][0])
            print('%-24s max abs %.2e' % ('  its longer prompt', float((got - reference['long_logits'][0]).abs().max())))


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    main()
