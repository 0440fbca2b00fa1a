"""The trained weights as the folders that `linnet convert` takes: dit/ (the teacher, a whole pipeline without a
decoder, since it works on pixels) and lit.safetensors (LiT's weights, which take the places of the teacher's).

    python export.py --out /tmp/lit-fashion
    linnet convert /tmp/lit-fashion/dit --linear-attention /tmp/lit-fashion/lit.safetensors -o lit-fashion.lnt --quantize q8
"""

import argparse
import json
import os

import torch
from safetensors.torch import save_file

import data
from train_lit import HEADS


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)


def lit_tensors(state):
    """LiT's weights as --linear-attention takes them."""
    return {**{k: v.contiguous() for k, v in state.items()}, "linear_attention.heads": torch.tensor([HEADS]),
            "linear_attention.epsilon": torch.tensor([1e-6])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    folder = f"{args.out}/dit"
    for part in ("transformer", "scheduler"):
        os.makedirs(f"{folder}/{part}", exist_ok=True)
    teacher = torch.load(f"{args.out}/teacher.pt")
    save_file({k: v.contiguous() for k, v in teacher.items()}, f"{folder}/transformer/diffusion_pytorch_model.safetensors")
    width, depth = teacher["pos_embed"].shape[-1], 1 + max(int(k.split(".")[1]) for k in teacher if k.startswith("blocks."))
    write(f"{folder}/transformer/config.json", dict(
        _class_name="DiTTransformer2DModel", num_attention_heads=4, attention_head_dim=width // 4, in_channels=1,
        out_channels=2, num_layers=depth, sample_size=28, patch_size=4, num_embeds_ada_norm=10))
    write(f"{folder}/scheduler/scheduler_config.json", dict(
        _class_name="DDPMScheduler", num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear",
        variance_type="learned_range", clip_sample=True, clip_sample_range=1.0, prediction_type="epsilon",
        timestep_spacing="trailing"))
    write(f"{folder}/model_index.json", dict(
        _class_name="DiTPipeline", transformer=["diffusers", "DiTTransformer2DModel"], scheduler=["diffusers", "DDPMScheduler"],
        id2label={str(i): name for i, name in enumerate(data.NAMES)}, num_inference_steps=50, guidance_scale=2.0))
    for name in ("lit", "scratch", "combined"):
        if os.path.exists(f"{args.out}/{name}.pt"):
            save_file(lit_tensors(torch.load(f"{args.out}/{name}.pt")), f"{args.out}/{name}.safetensors")


if __name__ == "__main__":
    main()
