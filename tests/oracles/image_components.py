"""Tiny random components of image models and what diffusers and transformers compute with them.

    python image_components.py ../golden/image

Each case: model/ (a folder `linnet convert` takes) and reference.safetensors with NAME.INPUT and NAME.OUTPUT
tensors of one or more calls. LiT has no official code: its case is the recipe's own PyTorch model.
"""

import json
import os
import sys
import zlib

import diffusers as D
import torch
import transformers as T
from safetensors.torch import save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
OUT = sys.argv[1]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/lit-fashion"))


def generator(*key):
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()) & 0x7FFFFFFF)


def randn(*shape, key=""):
    return torch.randn(shape, generator=generator("x", shape, key))


def randomise(model, name):
    """Weights that keep activations near 1 and leave nothing at 0 or 1, rounded to bf16 so that files are small."""
    for key, p in model.named_parameters():
        r = torch.randn(p.shape, generator=generator(name, key))
        if p.dim() == 1:
            value = 1 + 0.2 * r if key.endswith("weight") else 0.1 * r
        elif "scale_shift_table" in key:
            value = 0.3 * r
        elif "embed" in key and p.dim() == 2 and "proj" not in key and "linear" not in key:
            value = 0.7 * r
        else:
            value = r / p[0].numel() ** 0.5
        p.copy_(value.bfloat16().float())
    return model.eval()


def save(case, parts, tensors):
    folder = os.path.join(OUT, case)
    os.makedirs(folder, exist_ok=True)
    for part, model in parts.items():
        model.to(torch.bfloat16).save_pretrained(os.path.join(folder, "model", part))
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "reference.safetensors"))
    for root, _, files in os.walk(folder):
        for f in files:
            os.chmod(os.path.join(root, f), 0o644)
    size = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(folder) for f in fs)
    print(f"{case}: {size / 1e3:.0f} kB")


def text_inputs(batch, tokens, width, key):
    mask = torch.ones(batch, tokens)
    mask[0, tokens - 3:] = 0
    if batch > 1:
        mask[1, 2] = 0  # not only padding at the end
    return dict(encoder_hidden_states=randn(batch, tokens, width, key=key), encoder_attention_mask=mask)


SANA = dict(in_channels=6, out_channels=6, num_attention_heads=3, attention_head_dim=16, num_layers=2,
            num_cross_attention_heads=4, cross_attention_head_dim=12, cross_attention_dim=48, caption_channels=20,
            mlp_ratio=2.5, sample_size=8)


def sana(case, key, **options):
    m = randomise(D.SanaTransformer2DModel(**{**SANA, **options}), case)
    tensors = {}
    for name, batch, h, w, t in (("square", 1, 6, 6, [917.0]), ("batch", 2, 4, 10, [500.0, 37.5])):
        i = dict(latents=randn(batch, m.config.in_channels, h, w, key=key + name), **text_inputs(batch, 9, 20, key + name),
                 timestep=torch.tensor(t) / (1000 if m.config.guidance_embeds else 1))
        if m.config.guidance_embeds:
            i["guidance"] = torch.full((batch,), 0.45)
        call = {k: v for k, v in i.items() if k != "latents"}
        o = m(hidden_states=i["latents"], **call, return_dict=False)[0]
        tensors.update({f"{name}.{k}": v for k, v in {**i, "output": o}.items()})
    save(case, dict(transformer=m), tensors)


sana("sana", "a")
sana("sana_patch2", "b", patch_size=2, interpolation_scale=1.5, attention_bias=True, mlp_ratio=3.0, out_channels=12)
sana("sana_sprint", "c", qk_norm="rms_norm_across_heads", guidance_embeds=True)

m = randomise(D.DiTTransformer2DModel(num_attention_heads=3, attention_head_dim=16, in_channels=4, out_channels=8,
                                      num_layers=2, sample_size=8, num_embeds_ada_norm=10, norm_eps=1e-5), "dit")
# Block 1 gets block 0's embedder, as published models have it; so both ways of reading it are tried.
calls = {}
for name, h, w in (("square", 8, 8), ("larger", 12, 12)):
    i = dict(latents=randn(2, 4, h, w, key=name), timestep=torch.tensor([873, 12]), class_labels=torch.tensor([7, 10]))
    o = m(i["latents"], timestep=i["timestep"], class_labels=i["class_labels"], return_dict=False)[0]
    calls.update({f"{name}.{k}": v for k, v in {**i, "output": o}.items()})
save("dit", dict(transformer=m), calls)

m = randomise(D.DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=12, in_channels=1, out_channels=2,
                                      num_layers=2, sample_size=12, patch_size=4, num_embeds_ada_norm=5,
                                      norm_eps=1e-6), "dit_shared")
m.transformer_blocks[1].norm1.emb.load_state_dict(m.transformer_blocks[0].norm1.emb.state_dict())
i = dict(latents=randn(1, 1, 12, 12, key="s"), timestep=torch.tensor([55]), class_labels=torch.tensor([3]))
o = m(i["latents"], timestep=i["timestep"], class_labels=i["class_labels"], return_dict=False)[0]
save("dit_shared", dict(transformer=m), {f"one.{k}": v for k, v in {**i, "output": o}.items()})

m = randomise(D.PixArtTransformer2DModel(num_attention_heads=3, attention_head_dim=16, in_channels=4, out_channels=8,
                                         num_layers=2, cross_attention_dim=48, caption_channels=20, sample_size=8,
                                         norm_type="ada_norm_single", norm_eps=1e-6, interpolation_scale=2,
                                         use_additional_conditions=False), "pixart")
calls = {}
for name, batch, h, w, t in (("square", 1, 8, 8, [611]), ("batch", 2, 6, 10, [40, 999])):
    i = dict(latents=randn(batch, 4, h, w, key=name), **text_inputs(batch, 9, 20, name), timestep=torch.tensor(t))
    o = m(i["latents"], encoder_hidden_states=i["encoder_hidden_states"],
          encoder_attention_mask=i["encoder_attention_mask"], timestep=i["timestep"],
          added_cond_kwargs=dict(resolution=None, aspect_ratio=None), return_dict=False)[0]
    calls.update({f"{name}.{k}": v for k, v in {**i, "output": o}.items()})
save("pixart", dict(transformer=m), calls)


def decoder(case, m, latents):
    calls = {}
    for name, batch, h, w in (("square", 1, 6, 6), ("batch", 2, 4, 7)):
        z = randn(batch, latents, h, w, key=name)
        calls.update({f"{name}.latents": z, f"{name}.image": m.decode(z, return_dict=False)[0]})
    # The encoder is not what is tested: its weights shrink to nothing of a file.
    save(case, dict(vae=m), calls)


def dc(**options):
    kinds = ("ResBlock", "ResBlock", "EfficientViTBlock")
    return D.AutoencoderDC(**{**dict(
        in_channels=3, latent_channels=4, attention_head_dim=8, encoder_block_types="ResBlock", decoder_block_types=kinds,
        encoder_block_out_channels=(4, 4, 4), decoder_block_out_channels=(8, 16, 32), encoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()), decoder_layers_per_block=(1, 2, 1), decoder_qkv_multiscales=((), (), (5,)),
        upsample_block_type="interpolate", downsample_block_type="Conv", decoder_norm_types="rms_norm",
        decoder_act_fns="silu", scaling_factor=0.41407), **options})


decoder("dc_ae", randomise(dc(), "dc"), 4)
decoder("dc_ae_shuffle", randomise(dc(upsample_block_type="pixel_shuffle", decoder_qkv_multiscales=((), (), (3, 5)),
                                      decoder_act_fns=("relu", "silu", "silu")), "dc2"), 4)
decoder("kl", randomise(D.AutoencoderKL(
    in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(8, 16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32), "kl"), 4)

c = T.Gemma2Config(vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=12, sliding_window=8,
                   max_position_embeddings=256, attn_implementation="eager")
m = randomise(T.Gemma2Model(c), "gemma2")
ids = torch.randint(3, 90, (1, 21), generator=generator("ids"))
save("gemma2", dict(text_encoder=m), {"one.input_ids": ids, "one.hidden_states": m(input_ids=ids).last_hidden_state})

for case, kind in (("t5", "gated-gelu"), ("t5_relu", "relu")):
    c = T.T5Config(vocab_size=70, d_model=32, d_kv=12, d_ff=40, num_layers=2, num_heads=3, feed_forward_proj=kind,
                   relative_attention_num_buckets=16, relative_attention_max_distance=24, is_encoder_decoder=False,
                   use_cache=False)
    m = randomise(T.T5EncoderModel(c), case)
    ids = torch.randint(3, 70, (2, 40), generator=generator(case))
    mask = torch.ones_like(ids)
    mask[0, 31:] = 0
    o = m(input_ids=ids, attention_mask=mask).last_hidden_state
    save(case, dict(text_encoder=m), {"one.input_ids": ids, "one.attention_mask": mask, "one.hidden_states": o})

# LiT and its softmax teacher, by the recipe's model, with the original DiT's tensor names.
from model import DiT  # noqa: E402

for case, kind, heads in (("lit", "linear", 2), ("dit_original", "softmax", 3)):
    m = randomise(DiT(kind, heads, size=16, patch=2, channels=2, width=48, depth=2, classes=6), case)
    i = dict(latents=randn(2, 2, 16, 16, key=case), timestep=torch.tensor([400, 3]), class_labels=torch.tensor([1, 6]))
    o = m(i["latents"], i["timestep"], i["class_labels"])
    folder = os.path.join(OUT, case, "model", "transformer")
    os.makedirs(folder, exist_ok=True)
    config = dict(_class_name="DiTTransformer2DModel", num_attention_heads=3, attention_head_dim=16, in_channels=2,
                  out_channels=4, num_layers=2, sample_size=16, patch_size=2, num_embeds_ada_norm=6)
    if kind == "linear":
        config.update(linear_attention_heads=heads, linear_attention_epsilon=1e-6)
    json.dump(config, open(f"{folder}/config.json", "w"), indent=1)
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in m.state_dict().items()}
    state["pos_embed"] = m.pos_embed
    if kind == "linear":
        trained = {k: v for k, v in state.items() if ".attn." in k}
        trained["linear_attention.heads"] = torch.tensor([heads])
        trained["linear_attention.epsilon"] = torch.tensor([1e-6])
        save_file(trained, os.path.join(OUT, case, "attention.safetensors"))
    save_file(state, f"{folder}/diffusion_pytorch_model.safetensors")
    save(case, {}, {f"one.{k}": v for k, v in {**i, "output": o}.items()})
    if kind == "linear":
        os.chmod(os.path.join(OUT, case, "attention.safetensors"), 0o644)
