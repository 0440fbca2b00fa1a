"""Trains the softmax DiT teacher on Fashion-MNIST.

    OMP_NUM_THREADS=1 python train_teacher.py --out /tmp/lit-fashion --minutes 45
"""

import argparse
import os
import time

import torch

import data
from diffusion import STEPS, Diffusion
from model import DiT
from training import Average, Budget, Curve, save


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--steps", type=int, help="so many steps, instead of --minutes")
    parser.add_argument("--snr-limit", type=float, default=5, help="of the loss's weights; 0: all equal")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--wall", type=float, help="most minutes by the clock")
    parser.add_argument("--decay-from", type=float, default=0.5, help="part of the budget after which the rate falls")
    parser.add_argument("--resume", action="store_true", help="go on from teacher.pt, with a new budget")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(args.seed)
    images, labels = data.load("train")
    model, diffusion = DiT(), Diffusion(args.snr_limit)
    if args.resume:
        model.load_state_dict(torch.load(f"{args.out}/teacher.pt"))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0, betas=(0.9, 0.99), fused=True)
    budget = Budget(args.minutes, args.rate, args.wall, decay_from=args.decay_from, steps=args.steps)
    curve = Curve(f"{args.out}/teacher{'-2' if args.resume else ''}.csv", ["noise", "variance", "rate"], every=50)
    saved = time.time()
    while (rate := budget.next_rate()) is not None:
        optimizer.param_groups[0]["lr"] = rate
        chosen = torch.randint(len(images), (args.batch,))
        x0, y = images[chosen], labels[chosen].clone()
        y[torch.rand(args.batch) < 0.1] = model.classes
        t, noise = torch.randint(STEPS, (args.batch,)), torch.randn_like(x0)
        xt = diffusion.noised(x0, t, noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(xt, t, y)
        loss, mse, variance = diffusion.loss(output.float(), x0, xt, t, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        curve.add(budget.step, [mse, variance, rate])
        if time.time() - saved > 120:
            save(f"{args.out}/teacher.pt", average.model)
            saved = time.time()
    save(f"{args.out}/teacher.pt", average.model)
    print(f"{budget.step} steps", flush=True)


if __name__ == "__main__":
    main()
