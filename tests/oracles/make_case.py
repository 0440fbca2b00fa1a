"""One golden case: a seed whose random model tests the runtime and not rounding, and the files that hold it."""
import argparse
import collections
import os
import sys

import common

SEEDS_TRIED = 200


def make(name, case, out, first_seed, maker):
    """Takes the first seed from first_seed on whose model is well conditioned and whose greedy path has no near tie.

    maker: build(case, seed, folder) -> model whose checkpoint it wrote into folder; noise(model, ids, logits, case);
    router_gap(model, ids, case) or none without experts; `produced_by`(case), `compute`, `script` for the manifest.
    """
    folder = common.fresh_folder(os.path.join(out, name))
    ids = common.prompt_ids(name, case['tokens'])
    refused = collections.Counter()
    for seed in range(first_seed, first_seed + SEEDS_TRIED):
        model = maker.build(case, seed, common.fresh_folder(os.path.join(folder, 'model')))
        logits = common.full_logits(model, ids)
        spread = float(logits.std())
        change = common.conditioning(model, ids, logits)
        if not logits.isfinite().all() or change > 1.5e-4 * spread:
            refused['ill conditioned'] += 1
            continue
        gap = maker.router_gap(model, ids, case)
        if gap is not None and gap < 5e-4:
            refused['near tie of experts'] += 1
            continue
        greedy_ids, margins = common.greedy(model, ids)
        if float(margins.min()) < 0.02 * spread or len(set(greedy_ids.tolist())) < 4:
            refused['near tie of tokens, or a constant answer'] += 1
            continue
        weakest = common.least_sensitive(model, ids, logits)
        if weakest[1] < 1e-3 * spread:
            refused['%s does not matter' % weakest[0]] += 1
            continue
        break
    else:
        sys.exit('%s: none of the seeds %d..%d is usable: %s' % (name, first_seed, seed, dict(refused)))
    noise = maker.noise(model, ids, logits, case)
    if noise > 1e-4 * spread:
        sys.exit('%s: the reference code differs from itself by %.2e' % (name, noise))
    common.write_reference(folder, ids, logits, greedy_ids, margins)
    note = {'note': case['cache_differs']} if case.get('cache_differs') else {}
    common.write_json(os.path.join(folder, 'manifest.json'), {
        'case': name, 'kind': 'language_model', 'what': case['what'], 'model_dir': 'model', 'seed': seed,
        'storage_dtype': case['dtype'], 'compute': maker.compute, 'produced_by': maker.produced_by(case),
        'remake': '%s OUT --case %s --seed %d' % (maker.script, name, seed), 'versions': common.versions(), **note,
        'T': case['tokens'], 'greedy_tokens': common.GREEDY_TOKENS,
        'greedy_note': 'argmax, no stop at end of text, prompt = input_ids',
        'tolerances': common.tolerance(noise, logits),
        'checks': {'%s_vs_full_max_abs' % maker.other_way(case): noise,
                   'greedy_min_top2_margin': float(margins.min()), 'logits_std': spread,
                   'logits_change_for_1e6_relative_weight_noise': change, 'min_router_gap': gap,
                   'least_sensitive_parameter_2pct': {weakest[0]: weakest[1]}}})
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files)
    print('%-28s seed %4d  std %.2f  noise %.1e  1e-6 noise %.1e  margin %.3f  weakest %s %.4f  %d KB' % (
        name, seed, spread, noise, change, float(margins.min()), weakest[0], weakest[1], size // 1024), flush=True)


def command_line(doc, cases, maker):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', nargs='?')
    parser.add_argument('--case', action='append', choices=sorted(cases))
    parser.add_argument('--seed', type=int, default=1, help='first seed to try')
    parser.add_argument('--list', action='store_true', help='print the cases and stop')
    args = parser.parse_args()
    if args.list:
        for name, case in cases.items():
            print('%-28s %s' % (name, case['what']))
        return
    if not args.out:
        parser.error('OUT is missing')
    for name in args.case or cases:
        make(name, cases[name], args.out, args.seed, maker)
