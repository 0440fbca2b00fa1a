"""Random tokenizer.json files beside the library that defines them: every option, in combinations.

    text_options.py golden/text/options --committed    remakes the committed goldens (few texts for each tokenizer)
    text_options.py OUT [--seed N] [--tokenizers N] [--texts N]    more of them, for LINNET_TEXT_OPTIONS=OUT
    text_options.py OUT --only KIND                    those where one part is of a kind, such as Metaspace
    text_options.py --schema golden/text/options/schema.json    every type of the library's serialisation with its fields

OUT gets models.json (the vocabularies) and cases.jsonl. A case is a tokenizer ("model": which vocabulary, "options": of the
model, "rest": the other parts) and its texts: [text, ids, ids with special tokens read as text, decoded without and with
special tokens, tokens added around]. A combination that the library itself refuses is left out.
"""
import argparse
import json
import pathlib
import random
import struct

from text_strings import strings
from tokenizers import AddedToken, Regex, Tokenizer, decoders as d, models, normalizers as n, pre_tokenizers as p, processors
from tokenizers import trainers

BLOCK = '▁'
UNKNOWN = '\U0010fffdunk'  # no text of the corpus
PATTERNS = [r'\s+', r'\p{L}+|\p{N}{1,3}', r'(?=(\d{3})+(?!\d))', r'\p{Uppercase_Letter}\p{Ll}*', r'\w+|[^\w\s]+', r'[[:punct:]]',
            r'[\p{L}&&[^\p{Han}]]+', r'\p{^L}', r'(?i:the|ss|st)', r'\b', r'x*', r'a{,2}b?', r'\h+', r'[[:alpha:]][[:^space:]]*',
            r'(?<=\p{P})', r'\s+(?!\S)|\s+', r'\p{Hiragana}+|\p{Katakana}+', r'.{3}?', r'(?m:.{4})', r'$', r'[^\S\n]+', r'\d++',
            r'\p{Sc}|\p{Emoji}', r"'(?i:[sdmt]|ll|ve|re)| ?\p{L}++", r'\R', r'\X{2}', r'o{1,2}+', r'\p{Alnum}{2}', r'[a-z[A-Z]]+']
BEHAVIOURS = ['removed', 'isolated', 'merged_with_previous', 'merged_with_next', 'contiguous']


def byte_pieces():
    return ['<0x%02X>' % b for b in range(256)]


def parsed(tokenizer):
    return json.loads(tokenizer.to_str())['model']


def make_models(corpus):
    """Vocabularies that the options make sense for."""
    def train(pre, normalizer=None, **options):
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(show_progress=False, special_tokens=[UNKNOWN],
                                                                 limit_alphabet=220, **options))
        return parsed(tokenizer)
    bytes_all = sorted(p.ByteLevel.alphabet())
    yield 'bytes', train(p.ByteLevel(add_prefix_space=False), vocab_size=520, initial_alphabet=bytes_all)
    some = train(p.ByteLevel(add_prefix_space=False), vocab_size=400, initial_alphabet=bytes_all[:150])
    yield 'some_bytes', some
    block = train(p.Metaspace(), vocab_size=480)
    yield 'block', block
    with_bytes = json.loads(json.dumps(block))
    for piece in byte_pieces():
        with_bytes['vocab'][piece] = len(with_bytes['vocab'])
    yield 'block_bytes', with_bytes
    holes = json.loads(json.dumps(block))
    for piece in byte_pieces()[40:225]:
        holes['vocab'][piece] = len(holes['vocab'])
    yield 'block_some_bytes', holes
    yield 'suffix', train(p.Whitespace(), vocab_size=450, end_of_word_suffix='</w>')
    yield 'prefix', train(p.Whitespace(), vocab_size=450, continuing_subword_prefix='##')
    yield 'both', train(p.Whitespace(), vocab_size=450, continuing_subword_prefix='##', end_of_word_suffix='</w>')
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = p.Metaspace()
    latin = [text for text in corpus if all(c < '\u0250' for c in text)]
    tokenizer.train_from_iterator(latin, trainers.UnigramTrainer(show_progress=False, vocab_size=900, unk_token=UNKNOWN,
                                                                 special_tokens=[UNKNOWN]))
    unigram = parsed(tokenizer)
    unigram['vocab'] = [[piece, struct.unpack('f', struct.pack('f', score))[0]] for piece, score in unigram['vocab']]
    yield 'unigram', unigram
    lowest = min(score for _, score in unigram['vocab'])
    yield 'unigram_bytes', {**unigram, 'vocab': unigram['vocab'] + [[piece, float(int(lowest)) - 2] for piece in byte_pieces() if piece not in dict(unigram['vocab'])]}


def some(r, choices, most):
    return [r.choice(choices) for _ in range(r.choice([0, 0, 1, 1, 2, most]))]


def normalizer(r):
    pattern = lambda: r.choice([{'String': r.choice([' ', 'a', '  ', 'the', BLOCK, '.', 'é'])}, {'Regex': r.choice(PATTERNS)}])
    one = lambda: r.choice([
        lambda: {'type': 'NFC'}, lambda: {'type': 'NFD'}, lambda: {'type': 'NFKC'}, lambda: {'type': 'NFKD'},
        lambda: {'type': 'Lowercase'}, lambda: {'type': 'Nmt'}, lambda: {'type': 'StripAccents'},
        lambda: {'type': 'Strip', 'strip_left': r.random() < .5, 'strip_right': r.random() < .5},
        lambda: {'type': 'Prepend', 'prepend': r.choice([BLOCK, ' ', 'x'])},
        lambda: {'type': 'Replace', 'pattern': pattern(), 'content': r.choice(['', ' ', BLOCK, 'ab'])},
        lambda: {'type': 'Replace', 'pattern': {'String': ' '}, 'content': BLOCK}])()
    parts = [one() for _ in range(r.choice([0, 0, 1, 1, 2, 3]))]
    return None if not parts else parts[0] if len(parts) == 1 else {'type': 'Sequence', 'normalizers': parts}


def metaspace(r):
    return {'type': 'Metaspace', 'replacement': BLOCK, 'prepend_scheme': r.choice(['always', 'first', 'never']),
            'split': r.random() < .5}


def byte_level(r):
    return {'type': 'ByteLevel', 'add_prefix_space': r.random() < .5, 'trim_offsets': r.random() < .5, 'use_regex': r.random() < .6}


def pre_tokenizer(r, wanted):
    behaviour = lambda: r.choice(['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'])
    pattern = lambda: r.choice([{'String': r.choice([' ', 'a', '12', '.'])}, {'Regex': r.choice(PATTERNS)}])
    one = lambda: r.choice([
        lambda: {'type': 'Split', 'pattern': pattern(), 'behavior': behaviour(), 'invert': r.random() < .3},
        lambda: {'type': 'Split', 'pattern': pattern(), 'behavior': 'Isolated', 'invert': False},
        lambda: {'type': 'Digits', 'individual_digits': r.random() < .5}, lambda: {'type': 'Whitespace'},
        lambda: {'type': 'WhitespaceSplit'}, lambda: {'type': 'Punctuation', 'behavior': behaviour()},
        lambda: {'type': 'BertPreTokenizer'}, lambda: {'type': 'CharDelimiterSplit', 'delimiter': r.choice([' ', '.', 'e'])},
        lambda: {'type': 'FixedLength', 'length': r.choice([1, 3, 7])}])()
    parts = [one() for _ in range(r.choice([0, 0, 1, 1, 2]))]
    if wanted == 'bytes' and r.random() < .9:
        parts.append(byte_level(r))
        if r.random() < .15:
            parts.append(one())
    elif wanted == 'block' and r.random() < .7:
        parts.insert(r.randrange(len(parts) + 1), metaspace(r))
    return None if not parts else parts[0] if len(parts) == 1 else {'type': 'Sequence', 'pretokenizers': parts}


def decoder(r, wanted):
    strip = {'type': 'Strip', 'content': ' ', 'start': r.choice([0, 1, 2]), 'stop': r.choice([0, 0, 1])}
    replace = {'type': 'Replace', 'pattern': {'String': BLOCK}, 'content': ' '}
    if wanted == 'bytes':
        return {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True}
    if wanted == 'suffix':
        return {'type': 'BPEDecoder', 'suffix': '</w>'}
    if wanted == 'prefix':
        return {'type': 'WordPiece', 'prefix': '##', 'cleanup': False}
    if r.random() < .3:
        return {'type': 'Metaspace', 'replacement': BLOCK, 'prepend_scheme': r.choice(['always', 'first', 'never']), 'split': True}
    parts = [replace, {'type': 'ByteFallback'}] + r.choice([[], [{'type': 'Fuse'}], [{'type': 'Fuse'}, strip]])
    return {'type': 'Sequence', 'decoders': parts}


def added_tokens(r, vocabulary, size):
    texts = r.sample(['<s>', '</s>', '<user>', '<|im_start|>', '<|im_end|>', '<|endoftext|>', 'ing', 'The', 'a b', 'x', '12', '...',
                      '<mask>', '  ', '\n\n'], r.choice([0, 2, 4, 6]))
    flag = lambda share=.25: r.random() < share
    # No pieces of the vocabulary: Linnet does not find those in plain text. And not normalised: the library then prints
    # them although they are to be skipped.
    special = {text for text in texts if flag(.4) and text not in vocabulary and text.strip()}
    ids = {}
    for text in texts:  # as the library numbers them
        ids[text] = vocabulary.get(text, size + sum(i >= size for i in ids.values()))
    return [{'id': ids[text], 'content': text, 'single_word': flag(), 'lstrip': flag(), 'rstrip': flag(), 'normalized': flag(.5) and text not in special,
             'special': text in special} for text in texts]


def post_processor(r, added):
    special = [t for t in added if t['special']]
    if len(special) < 2 or r.random() < .5:
        return None
    token = lambda t: {'SpecialToken': {'id': t['content'], 'type_id': 0}}
    before, behind = r.choices(special, k=r.choice([0, 1, 2])), r.choices(special, k=r.choice([0, 0, 1, 2]))
    template = {'type': 'TemplateProcessing',
                'single': [*map(token, before), {'Sequence': {'id': 'A', 'type_id': 0}}, *map(token, behind)],
                'pair': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],
                'special_tokens': {t['content']: {'id': t['content'], 'ids': [t['id']], 'tokens': [t['content']]} for t in special}}
    pair = lambda t: [t['content'], t['id']]
    roberta = {'type': 'RobertaProcessing', 'sep': pair(special[0]), 'cls': pair(special[1]), 'trim_offsets': True,
               'add_prefix_space': True}
    return r.choice([template, template, roberta, {'type': 'Sequence', 'processors': [
        {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': False, 'use_regex': True}, template]}])


def make_case(r, name, model):
    size = len(model['vocab'])
    pieces = model['vocab'] if model['type'] == 'BPE' else {piece: i for i, (piece, _) in enumerate(model['vocab'])}
    added = added_tokens(r, pieces, size)
    kind = 'bytes' if 'bytes' in name and 'block' not in name and model['type'] == 'BPE' else \
        'block' if 'block' in name or model['type'] == 'Unigram' else name
    options = {}
    if model['type'] == 'BPE':
        options = {'fuse_unk': r.random() < .5, 'byte_fallback': r.random() < .5, 'ignore_merges': r.random() < .25,
                   'unk_token': r.choice([UNKNOWN, UNKNOWN, None])}
    else:
        options = {'byte_fallback': 'bytes' in name and r.random() < .8}
    normal, cut = normalizer(r), pre_tokenizer(r, kind)
    # Where a part begins in the original text decides what is first, and characters made of one all begin there.
    if kind == 'block' and isinstance(cut, dict) and cut['type'] == 'Sequence' and cut['pretokenizers'][0]['type'] != 'Metaspace':
        cut = json.loads(json.dumps(cut).replace('"first"', '"always"'))
    # What is prepended stands, to the library, where the text begins, and so does what follows it: two parts may be first.
    if 'Prepend' in types_of(normal):
        cut = json.loads(json.dumps(cut).replace('"first"', '"always"'))
    rest = {'normalizer': normal, 'pre_tokenizer': cut, 'decoder': decoder(r, kind),
            'added_tokens': added, 'post_processor': post_processor(r, added)}
    return {'model': name, 'options': options, 'rest': rest}


def build(case, made):
    model = {**made[case['model']], **case['options']}
    return Tokenizer.from_str(json.dumps({'version': '1.0', 'truncation': None, 'padding': None, **case['rest'], 'model': model}))


def run(case, made, texts):
    tokenizer = build(case, made)
    rows = []
    for text in texts:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        around = tokenizer.encode(text, add_special_tokens=True).ids
        tokenizer.encode_special_tokens = True
        as_text = tokenizer.encode(text, add_special_tokens=False).ids
        at = next(i for i in range(len(around) + 1) if around[i:i + len(ids)] == ids) if len(around) != len(ids) else 0
        rows.append([text, ids, as_text, tokenizer.decode(ids, skip_special_tokens=True),
                     tokenizer.decode(ids, skip_special_tokens=False), around])
    return rows


def types_of(value):
    if isinstance(value, dict):
        yield from ([value['type']] if isinstance(value.get('type'), str) else [])
        for inner in value.values():
            yield from types_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from types_of(inner)


def schema():
    """Every part that the library can make, as it writes it."""
    small = lambda model: Tokenizer(model)
    def written(part, value):
        tokenizer = small(models.BPE())
        setattr(tokenizer, part, value)
        return json.loads(tokenizer.to_str())[part]
    parts = {
        'normalizer': [n.BertNormalizer(), n.NFC(), n.NFD(), n.NFKC(), n.NFKD(), n.Sequence([n.NFC()]), n.Lowercase(), n.Strip(),
                       n.StripAccents(), n.Nmt(), n.Replace('a', 'b'), n.Replace(Regex('a'), 'b'), n.Prepend('a'), n.ByteLevel()],
        'pre_tokenizer': [p.BertPreTokenizer(), p.ByteLevel(), p.CharDelimiterSplit(' '), p.Digits(), p.Metaspace(),
                          p.Punctuation(), p.Sequence([p.Digits()]), p.Split(' ', 'isolated'), p.UnicodeScripts(), p.Whitespace(),
                          p.WhitespaceSplit(), p.FixedLength(5)],
        'decoder': [d.ByteLevel(), d.WordPiece(), d.Metaspace(), d.BPEDecoder(), d.CTC(), d.Sequence([d.Fuse()]), d.ByteFallback(),
                    d.Replace('a', 'b'), d.Fuse(), d.Strip()],
        'post_processor': [processors.BertProcessing(('a', 1), ('b', 2)), processors.ByteLevel(),
                           processors.RobertaProcessing(('a', 1), ('b', 2)),
                           processors.TemplateProcessing(single='a $A', pair=None, special_tokens=[('a', 1)]),
                           processors.Sequence([processors.ByteLevel()])],
    }
    out = {part: [written(part, value) for value in values] for part, values in parts.items()}
    out['normalizer'].append({'type': 'Precompiled', 'precompiled_charsmap': 'BAAAAAAAAAAA'})
    tokenizer = Tokenizer(models.BPE(vocab={'a': 0}, merges=[]))
    tokenizer.add_tokens([AddedToken('b')])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding()
    top = json.loads(tokenizer.to_str())
    out['top'] = sorted(top)
    out['added_tokens'] = top['added_tokens']
    out['truncation'], out['padding'] = top['truncation'], top['padding']
    out['model'] = [parsed(small(m)) for m in (models.BPE(vocab={'a': 0}, merges=[]), models.Unigram([('a', -1.0)], 0, False),
                                               models.WordLevel({'a': 0}, 'a'), models.WordPiece({'a': 0}, unk_token='a'))]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=pathlib.Path, nargs='?')
    parser.add_argument('--committed', action='store_true')
    parser.add_argument('--seed', type=int, default=20260301)
    parser.add_argument('--tokenizers', type=int, default=400)
    parser.add_argument('--texts', type=int, default=40)
    parser.add_argument('--only')
    parser.add_argument('--schema', type=pathlib.Path)
    args = parser.parse_args()
    dump = lambda value, file: json.dump(value, file, ensure_ascii=False, separators=(',', ':'))
    if args.schema:
        with open(args.schema, 'w') as file:
            json.dump(schema(), file, ensure_ascii=False, indent=1)
        return
    if args.committed:
        args.tokenizers, args.texts = 150, 5
    args.out.mkdir(parents=True, exist_ok=True)
    made = dict(make_models(strings(3000, 7)))
    r = random.Random(args.seed)
    pool = [text for text in strings(20000, args.seed) if len(text) < (40 if args.committed else 400) and '<0x' not in text]  # bytes that are no text
    with open(args.out / 'models.json', 'w') as file:
        dump(made, file)
    refused = count = 0
    with open(args.out / 'cases.jsonl', 'w') as file:
        while count < args.tokenizers:
            name = r.choice(list(made))
            case = make_case(r, name, made[name])
            texts = r.sample(pool, args.texts)
            if args.only and args.only not in set(types_of(case)):
                continue
            try:
                case['texts'] = run(case, made, texts)
            except BaseException as e:  # the library's own panics too
                refused += 1
                print('refused by the library:', str(e)[:100], json.dumps(case['rest'], ensure_ascii=False)[:200])
                continue
            dump(case, file)
            file.write('\n')
            count += 1
    print(f'{count} tokenizers with {args.texts} texts each, {refused} refused by the library itself')


if __name__ == '__main__':
    main()
