#!/usr/bin/env python3
"""Random configurations of every image component: diffusers and transformers beside the linnet command.

    python image_fuzz.py LINNET [--kinds sana,dit,...] [--seeds 0:10] [--keep FOLDER] [--quantize f32]

Each case is a tiny model with random weights, converted in f32 and run with `linnet run`; prints the relative error
(root mean square) of each call and exits with 1 where one is over 1e-4 (--quantize f32) or a command fails.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile
import warnings

import diffusers as D
import torch
import transformers as T
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
torch.set_grad_enabled(False)
torch.set_num_threads(1)


def randomise(model, r):
    g = torch.Generator().manual_seed(r.randrange(1 << 30))
    for key, p in model.named_parameters():
        n = torch.randn(p.shape, generator=g)
        if p.dim() <= 1:
            p.copy_(1 + 0.2 * n if key.endswith("weight") else 0.1 * n)
        elif "scale_shift_table" in key:
            p.copy_(0.3 * n)
        elif "embed" in key and p.dim() == 2 and "proj" not in key and "linear" not in key:
            p.copy_(0.7 * n)
        else:
            p.copy_(n / p[0].numel() ** 0.5)
    return model.eval()


def randn(r, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(r.randrange(1 << 30)))


def mask(r, batch, tokens):
    m = torch.ones(batch, tokens)
    for b in range(batch):
        n = r.randrange(tokens)
        if r.random() < 0.5 and n:
            m[b, tokens - n:] = 0
        if r.random() < 0.3 and n:
            m[b, :n] = 0
        if m[b].sum() == 0:
            m[b, r.randrange(tokens)] = 1
    return m


def text(r, batch, width):
    tokens = r.randint(1, 24)
    return dict(encoder_hidden_states=randn(r, batch, tokens, width), encoder_attention_mask=mask(r, batch, tokens))


def calls(r):
    return [(f"call{i}", r.randint(1, 3), r.randint(1, 7), r.randint(1, 9)) for i in range(2)]


def sana(r, sprint=False):
    heads, dim = r.choice([(1, 16), (3, 12), (4, 32), (2, 20), (6, 8), (5, 10)])
    width = heads * dim
    cross = r.choice([(h, width // h) for h in range(1, 9) if width % h == 0 and width // h > 1] + [(3, 7), (2, 40)])
    patch = r.choice([1, 1, 2, 3])
    channels = r.choice([4, 6, 32])
    c = dict(in_channels=channels, out_channels=r.choice([channels, 2 * channels, None]), num_attention_heads=heads,
             attention_head_dim=dim, num_layers=r.randint(1, 3), num_cross_attention_heads=cross[0],
             cross_attention_head_dim=cross[1], cross_attention_dim=width, caption_channels=r.choice([20, 32, 50]),
             mlp_ratio=r.choice([2.5, 3.0, 1.7, 4.0]), sample_size=r.choice([8, 12, 32]), patch_size=patch,
             attention_bias=r.random() < 0.3, norm_eps=r.choice([1e-6, 1e-5]), dropout=r.choice([0.0, 0.1]),
             interpolation_scale=r.choice([None, None, 1, 2, 0.5]))
    if sprint or r.random() < 0.2:
        c.update(qk_norm="rms_norm_across_heads")
    guided = sprint or r.random() < 0.2
    if guided:
        c.update(guidance_embeds=True, guidance_embeds_scale=r.choice([0.1, 0.2]), timestep_scale=r.choice([1.0, 1000.0]))
    m = randomise(D.SanaTransformer2DModel(**c), r)
    out = {}
    for name, batch, h, w in calls(r):
        i = dict(latents=randn(r, batch, channels, h * patch, w * patch), **text(r, batch, c["caption_channels"]),
                 timestep=torch.tensor([r.random() * (1.5 if guided else 1000) for _ in range(batch)]))
        if guided:
            i["guidance"] = torch.tensor([r.random() for _ in range(batch)])
        o = m(hidden_states=i["latents"], **{k: v for k, v in i.items() if k != "latents"}, return_dict=False)[0]
        out[name] = (i, {"output": o})
    return "transformer", m, "denoise", out


def dit(r):
    heads, dim = r.choice([(1, 16), (3, 12), (4, 32), (2, 20), (6, 8)])
    patch, channels, size = r.choice([1, 2, 4]), r.choice([1, 4, 5]), r.choice([8, 16])
    c = dict(num_attention_heads=heads, attention_head_dim=dim, in_channels=channels,
             out_channels=r.choice([channels, 2 * channels, None]), num_layers=r.randint(1, 3), sample_size=size,
             patch_size=patch, num_embeds_ada_norm=r.choice([3, 10]), norm_eps=r.choice([1e-5, 1e-6]),
             attention_bias=r.random() < 0.8, upcast_attention=r.random() < 0.3)
    m = randomise(D.DiTTransformer2DModel(**c), r)
    out = {}
    for name, batch, h, _ in calls(r):
        i = dict(latents=randn(r, batch, channels, h * patch, h * patch),
                 timestep=torch.tensor([r.randrange(1000) for _ in range(batch)]),
                 class_labels=torch.tensor([r.randrange(c["num_embeds_ada_norm"] + 1) for _ in range(batch)]))
        out[name] = (i, {"output": m(i["latents"], timestep=i["timestep"], class_labels=i["class_labels"], return_dict=False)[0]})
    return "transformer", m, "denoise", out


def pixart(r):
    heads, dim = r.choice([(1, 16), (3, 12), (4, 32), (2, 20), (6, 8)])
    patch, channels, size = r.choice([1, 2, 4]), r.choice([1, 4, 5]), r.choice([8, 16, 64, 128, 256])
    c = dict(num_attention_heads=heads, attention_head_dim=dim, in_channels=channels,
             out_channels=r.choice([channels, 2 * channels, None]), num_layers=r.randint(1, 3), sample_size=size,
             patch_size=patch, cross_attention_dim=heads * dim, caption_channels=r.choice([20, 32, 50]),
             interpolation_scale=r.choice([None, 1, 2, 0.5]), use_additional_conditions=False,
             norm_eps=r.choice([1e-5, 1e-6]), attention_bias=r.random() < 0.8)
    m = randomise(D.PixArtTransformer2DModel(**c), r)
    out = {}
    for name, batch, h, w in calls(r):
        i = dict(latents=randn(r, batch, channels, h * patch, w * patch), **text(r, batch, c["caption_channels"]),
                 timestep=torch.tensor([r.randrange(1000) for _ in range(batch)]))
        o = m(i["latents"], encoder_hidden_states=i["encoder_hidden_states"],
              encoder_attention_mask=i["encoder_attention_mask"], timestep=i["timestep"],
              added_cond_kwargs=dict(resolution=None, aspect_ratio=None), return_dict=False)[0]
        out[name] = (i, {"output": o})
    return "transformer", m, "denoise", out


def decoder(r, m, latents):
    out = {}
    for name, batch, h, w in calls(r):
        z = randn(r, batch, latents, h, w)
        out[name] = ({"latents": z}, {"image": m.decode(z, return_dict=False)[0]})
    return "vae", m, "decode_image", out


def dc(r):
    stages, dim = r.randint(2, 4), r.choice([4, 8, 16])
    latents = r.choice([4, 8])
    channels = [r.choice([8, 16, 24, 32]) * (dim // 8 or 1) for _ in range(stages)]
    channels = [c + -c % (2 * dim) for c in channels]
    channels[-1] = latents * r.choice([2, 4, 8]) * (dim // 4)
    channels[-1] += -channels[-1] % dim
    if channels[-1] % latents:
        channels[-1] = latents * dim
    # A shortcut repeats channels: each stage's outputs, four pixels, must be a multiple of its inputs.
    for i in reversed(range(stages - 1)):
        if channels[i] * 4 % channels[i + 1]:
            channels[i] = channels[i + 1]
    kinds = [r.choice(["ResBlock", "EfficientViTBlock"]) for _ in range(stages)]
    c = dict(in_channels=3, latent_channels=latents, attention_head_dim=dim, encoder_block_types="ResBlock",
             decoder_block_types=r.choice([kinds, "ResBlock"]), encoder_block_out_channels=(8,) * stages,
             decoder_block_out_channels=channels, encoder_layers_per_block=(1,) * stages,
             decoder_layers_per_block=[r.randint(1, 2) for _ in range(stages)], encoder_qkv_multiscales=((),) * stages,
             decoder_qkv_multiscales=[r.choice([[], [5], [3], [3, 5]]) for _ in range(stages)],
             upsample_block_type=r.choice(["interpolate", "pixel_shuffle"]), downsample_block_type="Conv",
             decoder_norm_types=r.choice(["rms_norm", ["rms_norm"] * stages]),
             decoder_act_fns=r.choice(["silu", "relu", [r.choice(["silu", "relu"]) for _ in range(stages)]]),
             scaling_factor=0.41)
    if r.random() < 0.3:
        c["decoder_layers_per_block"][0] = 0
    if r.random() < 0.3:
        c["decoder_conv_act_fn"] = r.choice(["silu", "relu"])
    if r.random() < 0.3:
        c["decoder_in_shortcut"] = False
    return decoder(r, randomise(D.AutoencoderDC(**c), r), latents)


def kl(r):
    stages, groups = r.randint(1, 4), r.choice([2, 4, 8])
    latents = r.choice([3, 4, 16])
    c = dict(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * stages,
             up_block_types=("UpDecoderBlock2D",) * stages, layers_per_block=r.randint(1, 2), latent_channels=latents,
             block_out_channels=[groups * r.randint(1, 4) for _ in range(stages)], norm_num_groups=groups,
             mid_block_add_attention=r.random() < 0.7, use_post_quant_conv=r.random() < 0.7)
    return decoder(r, randomise(D.AutoencoderKL(**c), r), latents)


def gemma2(r):
    heads, kv = r.choice([(4, 2), (2, 1), (3, 3), (8, 2)])
    layers = r.randint(1, 4)
    c = T.Gemma2Config(vocab_size=90, hidden_size=r.choice([24, 32, 48]), intermediate_size=r.choice([40, 64]),
                       num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
                       head_dim=r.choice([8, 12, 16]), query_pre_attn_scalar=r.choice([8, 12, 144]),
                       sliding_window=r.choice([4, 8, 64]), max_position_embeddings=256, attn_implementation="eager",
                       attention_bias=r.random() < 0.2, attn_logit_softcapping=r.choice([50.0, 5.0, None]),
                       hidden_activation=r.choice(["gelu_pytorch_tanh", "gelu_pytorch_tanh", "silu"]),
                       rms_norm_eps=r.choice([1e-6, 1e-5]),
                       layer_types=r.choice([None, [r.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]]),
                       rope_parameters=dict(rope_type="default", rope_theta=r.choice([10000.0, 500.0])))
    m = randomise(T.Gemma2Model(c), r)
    out = {}
    for name, batch, _, _ in calls(r):
        ids = torch.randint(3, 90, (batch, r.randint(1, 40)), generator=torch.Generator().manual_seed(r.randrange(1 << 30)))
        out[name] = ({"input_ids": ids}, {"hidden_states": m(input_ids=ids).last_hidden_state})
    return "text_encoder", m, "encode_text", out


def t5(r):
    c = T.T5Config(vocab_size=70, d_model=r.choice([24, 32, 48]), d_kv=r.choice([8, 12]), d_ff=r.choice([40, 64]),
                   num_layers=r.randint(1, 3), num_heads=r.choice([2, 3, 4]),
                   feed_forward_proj=r.choice(["gated-gelu", "relu", "gated-silu", "gelu", "gated-relu"]),
                   relative_attention_num_buckets=r.choice([8, 16, 32]),
                   relative_attention_max_distance=r.choice([24, 64, 128]), is_encoder_decoder=False, use_cache=False,
                   layer_norm_epsilon=r.choice([1e-6, 1e-5]))
    m = randomise(T.T5EncoderModel(c), r)
    out = {}
    for name, batch, _, _ in calls(r):
        tokens = r.randint(1, 150)
        ids = torch.randint(3, 70, (batch, tokens), generator=torch.Generator().manual_seed(r.randrange(1 << 30)))
        a = mask(r, batch, tokens).long()
        out[name] = ({"input_ids": ids, "attention_mask": a},
                     {"hidden_states": m(input_ids=ids, attention_mask=a).last_hidden_state})
    return "text_encoder", m, "encode_text", out


KINDS = dict(sana=sana, sprint=lambda r: sana(r, True), dit=dit, pixart=pixart, dc=dc, kl=kl, gemma2=gemma2, t5=t5)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-600:]


def check(args, kind, seed, folder):
    r = random.Random(f"{kind} {seed}")
    try:
        part, model, method, cases = KINDS[kind](r)
    except (ValueError, RuntimeError, AssertionError) as error:  # the library does not have this one either
        print(f"{kind} {seed}: SKIPPED, {str(error)[:80]}", flush=True)
        return None
    source, lnt = os.path.join(folder, "model"), os.path.join(folder, "m.lnt")
    model.save_pretrained(os.path.join(source, part))
    failed = run([args.linnet, "convert", source, "-o", lnt, "--quantize", args.quantize, "--force", "--no-self-test"])
    if failed:
        return f"convert: {failed}\n    {model.config}"
    worst = 0
    assert cases and all(outputs for _, outputs in cases.values())
    for name, (inputs, outputs) in cases.items():
        given, taken = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        save_file({k: v.contiguous() for k, v in inputs.items()}, given)
        failed = run([args.linnet, "run", lnt, "--method", method, "--inputs", given, "--outputs", taken, "--force"])
        if failed:
            return f"run {name}: {failed}\n    {({k: tuple(v.shape) for k, v in inputs.items()})}\n    {model.config}"
        found = load_file(taken)
        for key, want in outputs.items():
            if not (torch.isfinite(want).all() and want.any()):
                return f"{name}, {key}: the truth is not finite or zero throughout\n    {model.config}"
            have = found[key].reshape(want.shape)
            error = ((have - want).pow(2).mean() / want.pow(2).mean()).sqrt().item()
            worst = max(worst, error if error == error else float("inf"))
    verdict = f"relative error {worst:.1e}"
    if worst > (1e-4 if args.quantize == "f32" else 1):
        return f"{verdict}\n    {model.config}"
    print(f"{kind} {seed}: {verdict}", flush=True)
    return ""


parser = argparse.ArgumentParser()
parser.add_argument("linnet")
parser.add_argument("--kinds", default=",".join(KINDS))
parser.add_argument("--seeds", default="0:6")
parser.add_argument("--keep")
parser.add_argument("--quantize", default="f32")
args = parser.parse_args()
first, last = map(int, args.seeds.split(":"))
bad = skipped = checked = 0
for kind in args.kinds.split(","):
    for seed in range(first, last):
        with tempfile.TemporaryDirectory() as scratch:
            failed = check(args, kind, seed, args.keep or scratch)
            skipped += failed is None
            checked += failed is not None
            if failed:
                print(f"{kind} {seed}: FAILED {failed}", flush=True)
                bad += 1
print(f"{checked} checked, {bad} failed, {skipped} skipped")
sys.exit(1 if bad or not checked else 0)
