#!/usr/bin/env python3
"""Short answers of several forms to the same prompts: most likely token first, the quickstart's penalty for repetition.

usage: samples.py LINNET FILE.lnt[:OPTIONS]...

The last prompt comes after eight short turns and asks for what the first one told."""
import json
import subprocess
import sys

PROMPTS = ['What is a linnet? Answer in one sentence.', 'Give me three tips for sleeping well.', 'Why do ships float?']
TURNS = ['My name is Priya and I keep honeybees.', 'Tell me about the moon.', 'Tell me about volcanoes.', 'Tell me about bread.',
         'Tell me about rivers.', 'Tell me about trains.', 'Tell me about clouds.', 'What is my name?']


def answers(linnet, spec, turns, tokens):
    file, _, options = spec.partition(':')
    run = subprocess.run([linnet, 'chat', file, '--json', '--temperature', '0', '--repetition-penalty', '1.1', '--max-tokens', str(tokens), '--threads', '1',
                          *options.split()], input='\n'.join(turns) + '\n', capture_output=True, text=True, check=True)
    out = ['']
    for event in map(json.loads, run.stdout.splitlines()):
        if event['event'] == 'token':
            out[-1] += event['text']
        elif event['event'] == 'done':
            out.append('')
    return out[:-1]


def main():
    for spec in sys.argv[2:]:
        print('## ' + spec)
        for prompt in PROMPTS:
            print('- %s\n  > %s' % (prompt, answers(sys.argv[1], spec, [prompt], 45)[0].strip().replace('\n', '\n  > ')))
        print('- %s ... %s\n  > %s' % (TURNS[0], TURNS[-1], answers(sys.argv[1], spec, TURNS, 120)[-1].strip()), flush=True)


if __name__ == '__main__':
    main()
