"""Quality against bytes: Linnet's quantiser beside llama.cpp's with an importance matrix of the same text.

    frontier.py LINNET F16_GGUF CALIBRATION_TEXT WORK_FOLDER --held TEXT [--held TEXT ...] [--peer GGUF ...] [--off-grid]

Prints a table (Markdown): KL divergence, nats a token, from the f16 file on each held-out text (`linnet eval`, windows of 512).
 - every TYPE of --types, rounded plainly and with --calibrate;
 - for every --peer, a file that llama.cpp quantised from F16_GGUF (llama_model_quantize; it shows which type each tensor gets):
   the same types rounded by ggml_quantize_chunk with the mean squares of the inputs on CALIBRATION_TEXT as importance, and
   Linnet's --budget of the same bytes.
--off-grid: for weights that lay in few bits before (all that packages have): channels are scaled by random factors of 0.78 to
1.28 and their partners by the inverse, so that the model stays the same function and no weight lies on its old grid.

Needs numpy, gguf, torch, transformers, llama-cpp-python. Llama architecture.
"""

import argparse
import ctypes
import glob
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader

NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def off_grid(source: str, target: str, heads: int, kv_heads: int) -> None:
    shutil.copy(source, target)
    tensors = {t.name: t.data for t in GGUFReader(target, "r+").tensors}
    random = np.random.default_rng(1)

    def factors(n):
        return np.exp(random.uniform(-0.25, 0.25, n)).astype(np.float32)

    def multiply(name, by):
        data = tensors[name]
        data[:] = (data.astype(np.float32) * by).astype(data.dtype)

    layers = 1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("blk."))
    for layer in range(layers):
        b = f"blk.{layer}."
        for norm, readers in (("attn_norm", ("attn_q", "attn_k", "attn_v")), ("ffn_norm", ("ffn_gate", "ffn_up"))):
            f = factors(tensors[b + norm + ".weight"].shape[0])
            multiply(b + norm + ".weight", f)
            for reader in readers:
                multiply(b + reader + ".weight", 1 / f[None, :])
        f = factors(tensors[b + "ffn_up.weight"].shape[0])
        multiply(b + "ffn_up.weight", f[:, None])
        multiply(b + "ffn_down.weight", 1 / f[None, :])
        f = factors(tensors[b + "attn_v.weight"].shape[0])
        multiply(b + "attn_v.weight", f[:, None])
        by_head = f.reshape(kv_heads, -1)
        multiply(b + "attn_output.weight", 1 / np.concatenate([by_head[h * kv_heads // heads] for h in range(heads)])[None, :])


def energies(gguf: str, text: str, tokens: int = 16384, length: int = 512) -> dict:
    """Mean squares of what every linear layer reads, as `linnet convert --calibrate` measures them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = os.path.split(gguf)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    sums, rows = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            def hook(_, inputs, name=name):
                x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
                sums[name] = sums.get(name, 0) + (x * x).sum(0)
                rows[name] = rows.get(name, 0) + x.shape[0]
            module.register_forward_pre_hook(hook)
    ids = tokenizer(Path(text).read_text(), return_tensors="pt").input_ids[0]
    with torch.no_grad():
        for at in range(0, min(tokens, len(ids) - length), length):
            model.model(ids[None, at:at + length])
    return {name: (s / rows[name]).float().numpy() for name, s in sums.items()}


def with_importance(f16: str, peer: str, target: str, importance: dict) -> None:
    import llama_cpp
    library = next(p for p in glob.glob(os.path.dirname(llama_cpp.__file__) + "/lib/libggml-base*"))
    quantize = ctypes.CDLL(library).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]
    shutil.copy(peer, target)
    source = {t.name: t for t in GGUFReader(f16).tensors}
    for t in GGUFReader(target, "r+").tensors:
        w = np.ascontiguousarray(source[t.name].data.astype(np.float32))
        if t.tensor_type == GGMLQuantizationType.F32:
            t.data[:] = w.reshape(t.data.shape)
            continue
        part = t.name.split(".")
        own = importance.get(f"model.layers.{part[1]}.{NAMES[part[2]]}") if part[0] == "blk" else None
        out = np.empty(t.data.nbytes, np.uint8)
        done = quantize(int(t.tensor_type), w.ctypes.data, out.ctypes.data, 0, w.shape[0], w.shape[1],
                        own.ctypes.data if own is not None else None)
        assert done == out.size, t.name
        t.data.view(np.uint8).reshape(-1)[:] = out


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("linnet", "gguf", "calibration", "work"):
        parser.add_argument(name)
    parser.add_argument("--held", action="append", required=True)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--types", nargs="*", default=["q3k", "iq4xs", "q4k", "q5k"])
    parser.add_argument("--off-grid", action="store_true")
    parser.add_argument("--heads", type=int, nargs=2, default=(9, 3), help="heads of queries, and of keys and values")
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(exist_ok=True)
    f16 = args.gguf
    if args.off_grid:
        f16 = str(work / "off_grid.gguf")
        off_grid(args.gguf, f16, *args.heads)

    def convert(source, name, *options):
        target = str(work / name)
        subprocess.run([args.linnet, "convert", source, "-o", target, "--force", "--no-self-test", *options], check=True,
                       stderr=subprocess.DEVNULL)
        return target

    reference = convert(f16, "f16.lnt")
    overhead = os.path.getsize(reference) - sum(
        t["bytes"] for t in json.loads(subprocess.check_output([args.linnet, "inspect", reference, "--tensors", "--json"]))["tensors"])
    print("| file | MB | " + " | ".join(f"KL, {Path(t).name}" for t in args.held) + " |")
    print("|---" * (2 + len(args.held)) + "|")

    def row(label, file):
        kls = []
        for text in args.held:
            out = json.loads(subprocess.check_output(
                [args.linnet, "eval", file, "--text", text, "--against", reference, "--context", "512", "--json"],
                stderr=subprocess.DEVNULL))
            kls.append(f"{out['against']['mean_kl']:.4f}")
        print(f"| {label} | {os.path.getsize(file) / 1e6:.1f} | " + " | ".join(kls) + " |", flush=True)

    for dtype in args.types:
        row(dtype, convert(f16, "plain.lnt", "--quantize", dtype))
        row(f"{dtype}, --calibrate, energies alone",
            convert(f16, "energies.lnt", "--quantize", dtype, "--calibrate", args.calibration, "--no-error-feedback"))
        row(f"{dtype}, --calibrate", convert(f16, "fed.lnt", "--quantize", dtype, "--calibrate", args.calibration))
    if args.peer:
        importance = energies(f16, args.calibration)
    for peer in args.peer:
        target = str(work / "peer.gguf")
        with_importance(f16, peer, target, importance)
        file = convert(target, "peer.lnt")
        row(f"llama.cpp's {Path(peer).stem} with importance", file)
        row("--budget of the same bytes", convert(f16, "budget.lnt", "--budget", str(os.path.getsize(file) - overhead - 65536),
                                                  "--calibrate", args.calibration))


main()
