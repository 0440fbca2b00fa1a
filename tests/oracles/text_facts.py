"""Special and added tokens in whatever files a folder has, beside transformers.

    text_facts.py golden/text/facts.jsonl [--seed N] [--count N]

Each line is a folder ("files": name -> content), what transformers says its beginning, end and padding tokens are, and the ids of
texts. The vocabulary is the 256 bytes, in a tokenizer.json, in vocab.json with merges.txt, or both.
"""
import argparse
import json
import os
import random
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers as p
from transformers import AutoTokenizer

TEXTS = ['say <tool> now', 'a<|im_end|>b', '<s>x </s>', 'hello  world 123', '<|endoftext|>', 'é <pad>\n', 'it<|extra|>s']
TOKENS = ['<|im_end|>', '<|im_start|>', '</s>', '<s>', '<pad>', '<tool>', '<|endoftext|>', '<|extra|>']


def flags(r, special, strips=True):
    return {'lstrip': strips and r.random() < .2, 'rstrip': strips and r.random() < .2, 'normalized': False, 'single_word': strips and r.random() < .1,
            'special': special}


def make_folder(r):
    alphabet = sorted(p.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [('t', 'o'), ('h', 'e')]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    config = {'tokenizer_class': 'PreTrainedTokenizerFast', 'model_max_length': 2048, 'clean_up_tokenization_spaces': False}
    files, order = {}, r.sample(TOKENS, r.choice([2, 4, 6]))
    first = len(vocab)
    in_json, slow = [], r.random() < .25
    if slow:
        config['tokenizer_class'] = 'Qwen2Tokenizer'
        files['vocab.json'], files['merges.txt'] = vocab, '#version: 0.2\n' + '\n'.join(' '.join(m) for m in merges) + '\n'
        config.update(bos_token=None, unk_token=None, eos_token=order[0], pad_token=order[1])  # not the class's own
    else:
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tokenizer.pre_tokenizer, tokenizer.decoder = p.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        parsed = json.loads(tokenizer.to_str())
        in_json = order[:r.randrange(len(order) + 1)]
        parsed['added_tokens'] = [{'id': first + i, 'content': t, **flags(r, r.random() < .7)} for i, t in enumerate(in_json)]
        files['tokenizer.json'] = parsed
    outside = order[len(in_json):]
    ids = {t: first + len(in_json) + i for i, t in enumerate(outside)}
    where = 'decoder' if slow else r.choice(['decoder', 'added'])
    if where == 'decoder':
        both = [(t['id'], {k: v for k, v in t.items() if k != 'id'}) for t in files.get('tokenizer.json', {}).get('added_tokens', [])]
        config['added_tokens_decoder'] = {str(i): t for i, t in both} | {
            str(i): {'content': t, **flags(r, r.random() < .6, not slow)} for t, i in ids.items()}  # Qwen2Tokenizer drops them
    elif ids:
        files['added_tokens.json'] = ids
    # With added_tokens_decoder transformers reads no map; Linnet does where tokenizer_config.json names nothing.
    maps = {'tokenizer_config.json': config, **({'special_tokens_map.json': {}} if where == 'added' else {})}
    for key in ('bos_token', 'eos_token', 'pad_token'):
        for map_ in maps.values():
            if r.random() < .5:
                token = r.choice(order)
                map_[key] = token if r.random() < .6 else {'content': token, 'lstrip': False, 'rstrip': False, 'normalized': False,
                                                          'single_word': False, **({'__type': 'AddedToken'} if map_ is config else {})}
    if r.random() < .3:
        config['add_bos_token'] = r.random() < .5
        config['add_eos_token'] = r.random() < .3
    if not maps.get('special_tokens_map.json', True):
        del maps['special_tokens_map.json']
    return files | maps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out')
    parser.add_argument('--seed', type=int, default=5)
    parser.add_argument('--count', type=int, default=150)
    args = parser.parse_args()
    r, made = random.Random(args.seed), 0
    with open(args.out, 'w') as out:
        while made < args.count:
            files = make_folder(r)
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    with open(os.path.join(folder, name), 'w') as file:
                        file.write(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
                try:
                    tokenizer = AutoTokenizer.from_pretrained(folder)
                    texts = [[t, tokenizer.encode(t)] for t in r.sample(TEXTS, 4)]
                except Exception as e:
                    print('refused by transformers:', str(e)[:100])
                    continue
                row = {'files': files, 'bos': tokenizer.bos_token_id, 'eos': tokenizer.eos_token_id, 'pad': tokenizer.pad_token_id,
                       'texts': texts}
            json.dump(row, out, ensure_ascii=False, separators=(',', ':'))
            out.write('\n')
            made += 1


if __name__ == '__main__':
    main()
