"""Goldens of the sampler: the probabilities that transformers' logits processors leave.

    python tests/oracles/text_sampler.py tests/golden/text/sampler.json
"""
import json
import sys

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper,
    TopPLogitsWarper)

OPTIONS = [
    {'temperature': 1}, {'temperature': .5}, {'temperature': 1.7}, {'temperature': 1, 'top_k': 1}, {'temperature': .8, 'top_k': 4},
    {'temperature': 1, 'top_k': 100}, {'temperature': 1, 'top_p': .5}, {'temperature': .7, 'top_p': .9}, {'temperature': 1, 'top_p': .01},
    {'temperature': 1, 'min_p': .1}, {'temperature': 2, 'min_p': .4}, {'temperature': 1, 'repetition_penalty': 1.3},
    {'temperature': .9, 'repetition_penalty': .8}, {'temperature': .8, 'top_k': 6, 'top_p': .85, 'min_p': .08, 'repetition_penalty': 1.2},
    {'temperature': 1.2, 'top_k': 8, 'top_p': .7, 'min_p': .2, 'repetition_penalty': 1.5},
]


def main(path):
    torch.manual_seed(3)
    cases = []
    for options in OPTIONS:
        for scale in (1., 3.):
            logits = (torch.randn(12) * scale).to(torch.float32)
            logits[5] = -float('inf')
            history = [2, 7, 7, int(logits.argmax())]
            steps = LogitsProcessorList()
            if 'repetition_penalty' in options:
                steps.append(RepetitionPenaltyLogitsProcessor(options['repetition_penalty']))
            steps.append(TemperatureLogitsWarper(float(options['temperature'])))
            if 'top_k' in options:
                steps.append(TopKLogitsWarper(options['top_k']))
            if 'top_p' in options:
                steps.append(TopPLogitsWarper(options['top_p']))
            if 'min_p' in options:
                steps.append(MinPLogitsWarper(options['min_p']))
            left = steps(torch.tensor([history]), logits[None].clone())
            cases.append({'options': options, 'history': history,
                          'logits': [x if x > -1e30 else None for x in logits.tolist()],
                          'probabilities': torch.softmax(left.double(), -1)[0].tolist()})
    with open(path, 'w') as file:
        json.dump(cases, file, separators=(',', ':'))
    print(len(cases), 'cases')


if __name__ == '__main__':
    main(sys.argv[1])
