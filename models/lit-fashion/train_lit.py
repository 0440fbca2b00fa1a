"""Makes LiT from the teacher. It inherits every weight but attention's; each attention first learns, layer by layer, to
give what the teacher's gives for the same input (--fit steps); then attention alone learns in the whole network, then
all of it, and noise (weight 0.5) and variance (0.05) are distilled as the paper says. --scratch: the same network
without a teacher.

    OMP_NUM_THREADS=1 python train_lit.py --out /tmp/lit-fashion --minutes 22
"""

import argparse
import os
import time

import torch

import data
from diffusion import STEPS, Diffusion
from model import DiT
from training import Average, Budget, Curve, save

HEADS = 2


def inherit(student, teacher):
    """Returns the names of the weights that are the student's own."""
    own = {name for name, _ in student.named_parameters() if ".attn." in name}
    state = student.state_dict()
    for name, value in teacher.state_dict().items():
        if name not in own and ".attn." not in name:
            state[name] = value.clone()
    student.load_state_dict(state)
    return own


def noised_batch(images, labels, classes, diffusion, batch):
    chosen = torch.randint(len(images), (batch,))
    x0, y = images[chosen], labels[chosen].clone()
    y[torch.rand(batch) < 0.1] = classes
    t, noise = torch.randint(STEPS, (batch,)), torch.randn_like(x0)
    return x0, diffusion.noised(x0, t, noise), t, y, noise


def fit_attention(student, teacher, images, labels, diffusion, steps, batch, path):
    """Each student's attention alone, on the inputs and outputs of the teacher's."""
    seen = {}
    hooks = [block.attn.register_forward_hook(lambda module, given, made, i=i: seen.__setitem__(i, (given[0], made)))
             for i, block in enumerate(teacher.blocks)]
    for mine, theirs in zip(student.blocks, teacher.blocks):
        mine.attn.qkv.load_state_dict(theirs.attn.qkv.state_dict())
        mine.attn.proj.load_state_dict(theirs.attn.proj.state_dict())
        torch.nn.init.zeros_(mine.attn.dwc.weight)
        torch.nn.init.zeros_(mine.attn.dwc.bias)
    optimizer = torch.optim.Adam([p for b in student.blocks for p in b.attn.parameters()])
    curve = Curve(path, [f"layer{i}" for i in range(len(student.blocks))])
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, step / 20) * (1 - step / (steps + 1))
        _, xt, t, y, _ = noised_batch(images, labels, student.classes, diffusion, batch)
        with torch.no_grad():
            teacher(xt, t, y)
        losses = [((b.attn(seen[i][0]) - seen[i][1]) ** 2).mean() / seen[i][1].var() for i, b in enumerate(student.blocks)]
        optimizer.zero_grad(set_to_none=True)
        sum(losses).backward()
        optimizer.step()
        curve.add(step, [loss.item() for loss in losses])
    for hook in hooks:
        hook.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=22)
    parser.add_argument("--steps", type=int, help="so many steps after the fit, instead of --minutes")
    parser.add_argument("--fit", type=int, default=400, help="steps of the fit layer by layer")
    parser.add_argument("--resume", action="store_true", help="go on from lit.pt instead of fitting anew")
    parser.add_argument("--attention-share", type=float, default=0.35, help="of the time that only attention learns")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--wall", type=float, help="most minutes by the clock")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    images, labels = data.load("train")
    diffusion, student, teacher = Diffusion(), DiT("linear", HEADS), None
    name = "scratch" if args.scratch else "lit"
    own = set()
    if not args.scratch:
        teacher = DiT().eval()
        teacher.load_state_dict(torch.load(f"{args.out}/teacher.pt"))
        own = inherit(student, teacher)
        if args.resume:
            student.load_state_dict(torch.load(f"{args.out}/lit.pt"))
        elif args.fit > 0:
            fit_attention(student, teacher, images, labels, diffusion, args.fit, args.batch, f"{args.out}/fit.csv")
            save(f"{args.out}/lit.pt", student)
    average = Average(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.rate, weight_decay=0, betas=(0.9, 0.99), fused=True)
    budget = Budget(args.minutes, args.rate, args.wall, decay_from=0.4, steps=args.steps)
    curve = Curve(f"{args.out}/{name}.csv", ["noise", "variance", "noise_distilled", "variance_distilled", "rate"], every=50)
    os.makedirs(f"{args.out}/{name}-checkpoints", exist_ok=True)
    saved, kept = time.time(), 0
    while (rate := budget.next_rate()) is not None:
        spent = budget.spent()
        alone = bool(own) and spent < args.attention_share
        for key, parameter in student.named_parameters():
            parameter.requires_grad_(not alone or key in own)
        optimizer.param_groups[0]["lr"] = rate
        x0, xt, t, y, noise = noised_batch(images, labels, student.classes, diffusion, args.batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = student(xt, t, y)
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(xt, t, y).float()
        output = output.float()
        loss, mse, variance = diffusion.loss(output, x0, xt, t, noise)
        distilled = [0.0, 0.0]
        if teacher is not None:
            difference = ((output - target) ** 2).mean(dim=(2, 3))
            loss = loss + 0.5 * (diffusion.noise_weight(t) * difference[:, 0]).mean() + 0.05 * difference[:, 1].mean()
            distilled = difference.detach().mean(dim=0).tolist()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        average.update(student)
        curve.add(budget.step, [mse, variance, *distilled, rate])
        if time.time() - saved > 60:
            save(f"{args.out}/{name}.pt", average.model)
            saved = time.time()
        # Ten checkpoints over the second half, for a combination of them (LCSC).
        if spent > 0.5 + 0.05 * kept:
            save(f"{args.out}/{name}-checkpoints/{kept}.pt", student)
            kept += 1
    save(f"{args.out}/{name}.pt", average.model)
    print(f"{budget.step} steps", flush=True)


if __name__ == "__main__":
    main()
