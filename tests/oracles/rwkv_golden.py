"""RWKV-7's golden under its author's names and shapes: tests/golden/readers/torch/rwkv7.pth, from the golden in
flash-linear-attention's names. The renaming is the inverse of fla's utils/convert_from_rwkv7.py. Needs torch."""

from pathlib import Path

import torch
from safetensors.torch import load_file

golden = Path(__file__).parent.parent / "golden"
tensors = load_file(golden / "language/fla_rwkv7/model/model.safetensors")
out = {}
for name, tensor in tensors.items():
    part = name.split(".")
    if name.startswith("model.embeddings."):
        own = "emb.weight"
    elif name.startswith("model.norm."):
        own = "ln_out." + part[-1]
    elif name.startswith("lm_head."):
        own = "head.weight"
    else:
        rest = ".".join(part[3:])
        for a, b in (("pre_norm.", "ln0."), ("attn_norm.", "ln1."), ("ffn_norm.", "ln2."), ("attn.g_norm.", "att.ln_x."),
                     ("attn.r_proj.", "att.receptance."), ("attn.k_proj.", "att.key."), ("attn.v_proj.", "att.value."),
                     ("attn.o_proj.", "att.output."), ("attn.", "att.")):
            if rest.startswith(a):
                rest = b + rest[len(a):]
                break
        for r in "wavg":
            for a, b in ((".lora.2.bias", "0"), (".lora.0.weight", "1"), (".lora.2.weight", "2")):
                if rest == f"att.{r}_lora{a}":
                    rest = f"att.{r}{b}"
                    tensor = tensor.T if tensor.ndim == 2 else tensor
        own = f"blocks.{part[2]}.{rest}"
        vector = any(own.endswith(e) for e in (".x_r", ".x_w", ".x_k", ".x_v", ".x_a", ".x_g", ".k_k", ".k_a", "att.w0", "att.a0", "att.v0"))
        if vector:
            tensor = tensor.reshape(1, 1, -1)
    out[own] = tensor.contiguous()
for n in "012":  # stored by the author's trainer, and unused
    out["blocks.0.att.v" + n] = torch.zeros_like(out["blocks.1.att.v" + n])
torch.save(out, golden / "readers/torch/rwkv7.pth")
print(len(out))
