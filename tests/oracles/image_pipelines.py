#!/usr/bin/env python3
"""Whole tiny pipelines, random weights, as diffusers runs them: SANA-Sprint (1, 2 and 4 steps), PixArt-Sigma, DiT, SANA.

    python image_pipelines.py ../golden/image [--seed N] [--check LINNET] [--only NAME]

Each case: model/ (a folder `linnet convert` takes) and reference.safetensors with, for each run of manifest.json,
RUN.initial_latents, RUN.latents (the last) and RUN.image (in -1 .. 1). --check also runs the command in f32 and q8
and prints how close the pictures come.
"""
import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import warnings
import zlib

import diffusers as D
import torch
import transformers as T
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

warnings.filterwarnings("ignore")
torch.set_grad_enabled(False)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--check")
parser.add_argument("--only")
args = parser.parse_args()
PROMPT = "A small Robot waters a bonsai on a windowsill"


def generator(*key):
    return torch.Generator().manual_seed(zlib.crc32(repr((args.seed,) + key).encode()) & 0x7FFFFFFF)


def randomise(model, name):
    """As in image_components.py, the branches of a block smaller, so that rounding is not amplified by depth."""
    for key, p in model.named_parameters():
        r = torch.randn(p.shape, generator=generator(name, key))
        if p.dim() <= 1:
            value = 1 + 0.2 * r if key.endswith("weight") else 0.1 * r
        elif "scale_shift_table" in key:
            value = 0.3 * r
        elif "embed" in key and p.dim() == 2 and "proj" not in key and "linear" not in key:
            value = 0.7 * r
        else:
            value = 0.7 * r / p[0].numel() ** 0.5
        p.copy_(value.bfloat16().float())
    return model.eval()


def gemma(width):
    tokenizer = T.PreTrainedTokenizerFast.from_pretrained(os.path.join(HERE, "../golden/image/sana_pipeline/model/tokenizer"))
    c = T.Gemma2Config(vocab_size=556, hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=64)
    return tokenizer, randomise(T.Gemma2Model(c), "gemma")


def t5(width):
    raw = Tokenizer.from_file(os.path.join(HERE, "../golden/text/t5.tokenizer.json"))
    raw.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", raw.token_to_id("</s>"))])
    tokenizer = T.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    c = T.T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
                   feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False)
    return tokenizer, randomise(T.T5EncoderModel(c), "t5")


def sana(**options):
    return randomise(D.SanaTransformer2DModel(**{**dict(
        in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=16, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=32, cross_attention_dim=64, caption_channels=32,
        sample_size=8, patch_size=1), **options}), "sana")


def dc():
    return randomise(D.AutoencoderDC(
        in_channels=3, latent_channels=8, attention_head_dim=8, encoder_block_types="ResBlock",
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(4, 4, 8),
        decoder_block_out_channels=(16, 16, 32), encoder_layers_per_block=(1, 1, 1), encoder_qkv_multiscales=((), (), ()),
        decoder_layers_per_block=(1, 1, 1), decoder_qkv_multiscales=((), (), (5,)), upsample_block_type="interpolate",
        downsample_block_type="Conv", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407), "dc")


def kl():
    return randomise(D.AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(8, 16, 16), layers_per_block=1, latent_channels=4,
        norm_num_groups=4, sample_size=32, scaling_factor=0.13025), "kl")


def sprint():
    tokenizer, encoder = gemma(32)
    return D.SanaSprintPipeline(tokenizer, encoder, dc(), sana(qk_norm="rms_norm_across_heads", guidance_embeds=True),
                                D.SCMScheduler())


def sana_euler():
    tokenizer, encoder = gemma(32)
    return D.SanaPipeline(tokenizer, encoder, dc(), sana(patch_size=2, interpolation_scale=1.0),
                          D.FlowMatchEulerDiscreteScheduler(shift=3.0))


def pixart():
    tokenizer, encoder = t5(32)
    m = D.PixArtTransformer2DModel(num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
                                   cross_attention_dim=64, caption_channels=32, sample_size=16, patch_size=2,
                                   norm_type="ada_norm_single", norm_eps=1e-6, use_additional_conditions=False)
    # as PixArt-Sigma-XL-2-1024-MS publishes it
    scheduler = D.DPMSolverMultistepScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02, solver_order=2,
                                              algorithm_type="dpmsolver++", timestep_spacing="linspace")
    return D.PixArtSigmaPipeline(tokenizer, encoder, kl(), randomise(m, "pixart"), scheduler)


def dit(scheduler):
    m = D.DiTTransformer2DModel(num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
                                sample_size=8, num_embeds_ada_norm=1000)
    return D.DiTPipeline(randomise(m, "dit"), kl(), scheduler, id2label={0: "tench, Tinca tinca", 7: "cock"})


TEXT = dict(prompt=PROMPT, use_resolution_binning=False, output_type="pt")
# case: pipeline, options of each run, options of the command beside them
CASES = {
    "sana_sprint_pipeline": (sprint, {
        "one": (dict(TEXT, num_inference_steps=1, intermediate_timesteps=None, height=32, width=32), []),
        "two": (dict(TEXT, num_inference_steps=2, height=32, width=64), []),
        "four": (dict(TEXT, num_inference_steps=4, intermediate_timesteps=None, height=64, width=32, guidance_scale=2.0),
                 ["--guidance", "2"])}),
    "pixart_pipeline": (pixart, {
        "plain": (dict(TEXT, num_inference_steps=5, height=32, width=64), []),
        "negative": (dict(TEXT, num_inference_steps=3, height=40, width=24, guidance_scale=2.0, negative_prompt="Dark, blurred"),
                     ["--guidance", "2", "--negative", "Dark, blurred"])}),
    "dit_pipeline": (lambda: dit(D.DDIMScheduler(clip_sample=False)), {  # (with DDPM it draws from the global generator)
        "ddim": (dict(class_labels=[7], num_inference_steps=4, guidance_scale=3.0, output_type="np"), ["--guidance", "3"])}),
    "sana_euler_pipeline": (sana_euler, {
        "negative": (dict(TEXT, num_inference_steps=4, height=32, width=64, guidance_scale=3.0, negative_prompt="Dark"),
                     ["--guidance", "3", "--negative", "Dark"])}),
}


def make(name, folder):
    build, runs = CASES[name]
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    tensors, manifest = {}, {}
    for run, (options, command) in runs.items():
        options = dict(options)
        vae, kept = pipe.vae, {}
        original, step = vae.decode, pipe.scheduler.step

        def decode(z, *rest, **named):
            out = original(z, *rest, **named)
            kept["image"] = out[0]
            kept["latents"] = z * vae.config.scaling_factor
            return out

        @functools.wraps(step)  # pipelines look at its arguments
        def noted(output, t, sample, **named):
            kept.setdefault("initial_latents", sample / pipe.scheduler.config.get("sigma_data", 1.0))
            return step(output, t, sample, **named)

        vae.decode, pipe.scheduler.step = decode, noted
        pipe(generator=torch.Generator().manual_seed(5), **options)
        vae.decode, pipe.scheduler.step = original, step
        if kept["initial_latents"].shape[0] > 1:  # with and without the class, from one noise
            kept["initial_latents"] = kept["initial_latents"][:1]
        z, image = kept["latents"][:1], kept["image"][:1].clamp(-1, 1)
        tensors.update({f"{run}.initial_latents": kept["initial_latents"], f"{run}.latents": z, f"{run}.image": image})
        manifest[run] = dict(steps=options["num_inference_steps"], height=image.shape[2], width=image.shape[3],
                             prompt=options.get("prompt"), class_labels=options.get("class_labels"),
                             guidance=options.get("guidance_scale"), negative=options.get("negative_prompt"), seed=5,
                             command=command)
    os.makedirs(folder, exist_ok=True)
    pipe.to(torch.bfloat16).save_pretrained(os.path.join(folder, "model"))
    if getattr(pipe, "labels", None):
        index = os.path.join(folder, "model", "model_index.json")
        data = json.load(open(index))
        data["id2label"] = {"0": "tench, Tinca tinca", "7": "cock"}
        json.dump(data, open(index, "w"), indent=1)
    save_file({k: v.float().contiguous() for k, v in tensors.items()}, os.path.join(folder, "reference.safetensors"))
    json.dump(manifest, open(os.path.join(folder, "manifest.json"), "w"), indent=1)
    for root, _, files in os.walk(folder):
        for f in files:
            os.chmod(os.path.join(root, f), 0o644)
    return tensors, manifest


def psnr(a, b):
    return 10 * torch.log10(4 / ((a - b) ** 2).mean()).item()


def check(name, folder, tensors, manifest):
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        for quantize, bound in (("f32", 110), ("q8", 42)):
            lnt = f"{scratch}/{quantize}.lnt"
            subprocess.run([args.check, "convert", f"{folder}/model", "-o", lnt, "--quantize", quantize], check=True, capture_output=True)
            for run, m in manifest.items():
                taken = f"{scratch}/out.safetensors"
                what = [m["prompt"]] if m["prompt"] else ["--class", str(m["class_labels"][0])]
                command = [args.check, "image", lnt, *what, "-o", f"{scratch}/o.png", "--force", "--steps", str(m["steps"]), "--size",
                           str(m["width"]), str(m["height"]), "--seed", "5", "--tensors", taken, *m["command"]]  # the noise is drawn as torch draws it
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{name} {run} {quantize}: FAILED {done.stderr.strip()}")
                    bad += 1
                    continue
                found = load_file(taken)
                want = tensors[f"{run}.latents"].flatten()
                error = ((found["latents"] - want).norm() / want.norm()).item()
                picture = psnr(found["image"].flatten(), tensors[f"{run}.image"].flatten())
                good = picture > bound  # not so for NaN
                verdict = "" if good else "  FAILED"
                bad += not good
                print(f"{name} {run} {quantize}: latents' relative error {error:.1e}, picture {picture:.1f} dB{verdict}", flush=True)
    return bad


failed = 0
for name in CASES:
    if args.only and name != args.only:
        continue
    folder = os.path.join(args.out, name)
    made = make(name, folder)
    if args.check:
        failed += check(name, folder, *made)
sys.exit(1 if failed else 0)
