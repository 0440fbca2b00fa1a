"""A SANA-0.6B pipeline's folder in its full shape (Gemma-2-2B, transformer, DC-AE f32c32) with random weights in bf16,
for measuring memory and time; what it paints is noise. Needs torch, diffusers, transformers; about 6.5 GB.

    python sana_random.py OUT_FOLDER TOKENIZER_FOLDER
"""

import json
import os
import shutil
import struct
import sys

import diffusers as D
import torch
import transformers as T

BLOCK = 1 << 20


def shapes_of(make):
    with torch.device("meta"):
        model = make()
    return {k: v.shape for k, v in model.state_dict().items()}


def write(folder, name, shapes, config):
    """Tensor by tensor: nothing is held but a block of noise, which every tensor repeats."""
    os.makedirs(folder, exist_ok=True)
    noise = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))
    header, at = {}, 0
    for key, shape in shapes.items():
        header[key] = dict(dtype="BF16", shape=list(shape), data_offsets=[at, at + 2 * shape.numel()])
        at += 2 * shape.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{folder}/{name}.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, shape in shapes.items():
            count = shape.numel()
            if len(shape) == 1:
                values = 0.02 * noise + (1 if key.endswith("weight") else 0)
            elif "scale_shift_table" in key:
                values = 0.1 * noise
            else:
                values = noise * 0.7 / (count / shape[0]) ** 0.5
            block = values.bfloat16().view(torch.int16).numpy().tobytes()
            for begin in range(0, count, BLOCK):
                file.write(block[:2 * min(BLOCK, count - begin)])
    json.dump(config, open(f"{folder}/config.json", "w"), indent=1)


out, tokenizer = sys.argv[1:3]
sana = dict(in_channels=32, out_channels=32, num_attention_heads=36, attention_head_dim=32, num_layers=28,
            num_cross_attention_heads=16, cross_attention_head_dim=72, cross_attention_dim=1152, caption_channels=2304,
            mlp_ratio=2.5, sample_size=32, patch_size=1)
write(f"{out}/transformer", "diffusion_pytorch_model", shapes_of(lambda: D.SanaTransformer2DModel(**sana)),
      dict(_class_name="SanaTransformer2DModel", **sana))
dc = dict(in_channels=3, latent_channels=32, attention_head_dim=32,
          decoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3, encoder_block_types="ResBlock",
          encoder_block_out_channels=[32] * 6, encoder_layers_per_block=[1] * 6, encoder_qkv_multiscales=[[]] * 6,
          decoder_block_out_channels=[128, 256, 512, 512, 1024, 1024], decoder_layers_per_block=[3] * 6,
          decoder_qkv_multiscales=[[], [], [], [5], [5], [5]], upsample_block_type="interpolate",
          downsample_block_type="Conv", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407)
write(f"{out}/vae", "diffusion_pytorch_model", shapes_of(lambda: D.AutoencoderDC(**dc)),
      dict(_class_name="AutoencoderDC", **dc))
gemma = dict(vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
             num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096)
write(f"{out}/text_encoder", "model", shapes_of(lambda: T.Gemma2Model(T.Gemma2Config(**gemma))),
      dict(architectures=["Gemma2Model"], model_type="gemma2", attn_logit_softcapping=50.0, rms_norm_eps=1e-6,
           rope_parameters=dict(rope_theta=10000.0, rope_type="default"), hidden_activation="gelu_pytorch_tanh", **gemma))
shutil.copytree(tokenizer, f"{out}/tokenizer", dirs_exist_ok=True)
os.makedirs(f"{out}/scheduler", exist_ok=True)
D.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0).save_pretrained(f"{out}/scheduler")
json.dump(dict(_class_name="SanaPipeline", **{p: ["", ""] for p in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")}),
          open(f"{out}/model_index.json", "w"))
