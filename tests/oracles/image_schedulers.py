"""Trajectories of diffusers' schedulers on a made-up model, and torch's normal noise.

    python image_schedulers.py ../golden/image/schedulers
    python image_schedulers.py FOLDER --random 100     then: LINNET_SCHEDULER_GOLDEN=FOLDER linnet_image_tests -tc="samplers*"

Writes cases.json (scheduler_config.json of each case, steps) and reference.safetensors.
The made-up model: v(x, t) = 0.8 tanh(0.7 x) + 0.05 t / 1000 (SCM: t itself); variance channel tanh(0.3 x).
"""

import json
import random
import sys

import diffusers as D
import torch
from safetensors.torch import save_file

torch.set_grad_enabled(False)
tensors, cases = {}, []
start = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(7))


def model(x, t):
    return torch.tanh(x * 0.7) * 0.8 + 0.05 * t


def run(name, scheduler, steps, variance=False, trig=False, **options):
    scheduler.set_timesteps(steps, **options)
    x = start * 0.5 if trig else start
    track, noises = [x], []
    timesteps = scheduler.timesteps[:-1] if trig else scheduler.timesteps
    for i, t in enumerate(timesteps):
        noises.append(torch.randn(x.shape, generator=torch.Generator().manual_seed(100 + i)))
        v = model(x, float(t) if trig else float(t) / 1000)
        if variance:
            v = torch.cat([v, torch.tanh(x * 0.3)], 1)
        extra = {}
        if "generator" in scheduler.step.__code__.co_varnames:
            extra["generator"] = torch.Generator().manual_seed(100 + i)
        x = scheduler.step(v, t, x, return_dict=False, **extra)[0]
        track.append(x)
    assert torch.isfinite(torch.stack(track)).all(), name
    tensors[f"{name}.trajectory"] = torch.stack(track)
    tensors[f"{name}.timesteps"] = timesteps.float()
    tensors[f"{name}.noise"] = torch.stack(noises)
    config = json.loads(scheduler.to_json_string())
    cases.append(dict(name=name, steps=steps, config=config))


def published():
    FLOW = dict(use_flow_sigmas=True, prediction_type="flow_prediction")
    dpm = D.DPMSolverMultistepScheduler
    for steps, shift, order in ((1, 3.0, 2), (5, 3.0, 2), (14, 1.0, 3), (20, 6.0, 2), (17, 3.0, 3), (9, 2.5, 1)):
        run(f"flow_dpm_{steps}_{order}", dpm(flow_shift=shift, solver_order=order, **FLOW), steps)
    run("flow_dpm_sde", dpm(flow_shift=3.0, algorithm_type="sde-dpmsolver++", **FLOW), 8)
    run("flow_dpm_heun", dpm(flow_shift=3.0, solver_type="heun", **FLOW), 16)
    run("flow_dpm_no_lower", dpm(flow_shift=3.0, lower_order_final=False, final_sigmas_type="sigma_min", **FLOW), 6)
    run("dpm_karras", dpm(use_karras_sigmas=True), 10)
    run("dpm_lu", dpm(use_lu_lambdas=True), 7)
    run("dpm_exponential", dpm(use_exponential_sigmas=True, prediction_type="v_prediction"), 11)
    run("dpm_trailing", dpm(timestep_spacing="trailing", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012), 13)
    run("dpm_leading_3", dpm(timestep_spacing="leading", steps_offset=1, solver_order=3), 25)
    run("dpm_cosine", dpm(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1, solver_type="heun"), 12)
    run("dpm_sde_3", dpm(algorithm_type="sde-dpmsolver++", solver_order=3, euler_at_final=True), 18)
    run("dpm_zero_snr", dpm(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"), 10)
    run("dpm_sample", dpm(prediction_type="sample", final_sigmas_type="sigma_min"), 9)
    euler = D.FlowMatchEulerDiscreteScheduler
    run("euler_1", euler(shift=3.0), 1)
    run("euler_7", euler(shift=1.0), 7)
    run("euler_terminal", euler(shift=3.0, shift_terminal=0.1), 9)
    run("euler_karras", euler(shift=3.0, use_karras_sigmas=True), 9)
    run("euler_exponential", euler(shift=2.0, use_exponential_sigmas=True), 6)
    run("euler_stochastic", euler(shift=3.0, stochastic_sampling=True), 5)
    run("ddim_clip", D.DDIMScheduler(), 13)
    run("ddim_trailing", D.DDIMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True), 10)
    run("ddim_linspace", D.DDIMScheduler(clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=False, prediction_type="sample"), 8)
    run("ddim_offset", D.DDIMScheduler(clip_sample=False, steps_offset=1, beta_schedule="scaled_linear"), 50)
    ddpm = D.DDPMScheduler
    run("ddpm_learned", ddpm(variance_type="learned_range", clip_sample=False), 25, variance=True)
    run("ddpm_small", ddpm(), 12)
    run("ddpm_small_log", ddpm(variance_type="fixed_small_log", clip_sample_range=2.0), 5)
    run("ddpm_large", ddpm(variance_type="fixed_large", beta_schedule="sigmoid", timestep_spacing="trailing", prediction_type="v_prediction"), 9)
    run("ddpm_trained", ddpm(trained_betas=[0.01 + 0.002 * i for i in range(40)], num_train_timesteps=40), 10)
    for steps, between in ((1, None), (2, 1.3), (3, None), (8, None)):
        run(f"scm_{steps}", D.SCMScheduler(), steps, trig=True, intermediate_timesteps=between)
    run("scm_data", D.SCMScheduler(sigma_data=0.5), 4, trig=True, intermediate_timesteps=None)


def any_config(r):
    """A scheduler with options drawn at random, and steps; whatever diffusers accepts."""
    steps = r.choice([1, 2, 3, 5, 8, 14, 15, 16, 20, 33])
    pick = lambda **options: {k: r.choice(v) for k, v in options.items()}
    betas = pick(beta_schedule=["linear", "scaled_linear", "squaredcos_cap_v2"], rescale_betas_zero_snr=[False, False, True],
                 timestep_spacing=["linspace", "leading", "trailing"], prediction_type=["epsilon", "sample", "v_prediction"],
                 num_train_timesteps=[1000, 500])
    kind = r.choice(["flow", "dpm", "dpm", "euler", "ddim", "ddpm", "scm"])
    if kind in ("flow", "dpm"):
        options = pick(solver_order=[1, 2, 3], solver_type=["midpoint", "heun"], lower_order_final=[True, False],
                       euler_at_final=[False, True], final_sigmas_type=["zero", "sigma_min"],
                       algorithm_type=["dpmsolver++", "dpmsolver++", "sde-dpmsolver++"])
        if kind == "flow":
            options.update(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=r.choice([1.0, 3.0, 8.5]))
        else:
            options.update(betas, steps_offset=r.choice([0, 1]), lambda_min_clipped=r.choice([-float("inf"), -5.1]))
            sigmas = r.choice(["", "", "use_karras_sigmas", "use_lu_lambdas", "use_exponential_sigmas"])
            if sigmas:
                options[sigmas] = True
        return D.DPMSolverMultistepScheduler(**options), steps, {}
    if kind == "euler":
        options = pick(shift=[1.0, 3.0, 6.0], shift_terminal=[None, 0.1], stochastic_sampling=[False, True])
        sigmas = r.choice(["", "", "use_karras_sigmas", "use_exponential_sigmas"])
        if sigmas:
            options[sigmas] = True
        return D.FlowMatchEulerDiscreteScheduler(**options), steps, {}
    if kind == "ddim":
        return D.DDIMScheduler(**betas, **pick(clip_sample=[False, True], clip_sample_range=[1.0, 2.0], set_alpha_to_one=[False, True],
                                               steps_offset=[0, 1])), steps, {}
    if kind == "ddpm":
        options = pick(variance_type=["fixed_small", "fixed_small_log", "fixed_large", "learned_range"], clip_sample=[False, True],
                       clip_sample_range=[1.0, 2.0], steps_offset=[0, 1])
        return D.DDPMScheduler(**betas, **options), steps, dict(variance=options["variance_type"] == "learned_range")
    return D.SCMScheduler(**pick(sigma_data=[0.5, 1.0])), steps, dict(trig=True, intermediate_timesteps=1.3 if steps == 2 else None)


if "--random" in sys.argv:
    for seed in range(int(sys.argv[sys.argv.index("--random") + 1])):
        scheduler, steps, options = any_config(random.Random(seed))
        try:
            run(f"random_{seed}", scheduler, steps, **options)
        except (AssertionError, ValueError, IndexError, RuntimeError) as error:
            print(f"random_{seed}: skipped, {str(error)[:100]}")
else:
    published()

for count, seed in ((16, 0), (64, 1), (100, 42), (1000, 2**31 + 5)):
    tensors[f"randn_{count}_{seed}"] = torch.randn(count, generator=torch.Generator().manual_seed(seed))

out = sys.argv[1]
save_file({k: v.contiguous() for k, v in tensors.items()}, f"{out}/reference.safetensors")
json.dump(cases, open(f"{out}/cases.json", "w"), indent=1)
print(len(cases), "cases")
