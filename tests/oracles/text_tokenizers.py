"""Goldens of runtime/text: tokenizers trained here, and what Hugging Face tokenizers and sentencepiece make of 10,000 texts.

    text_tokenizers.py golden/text                 remakes the committed goldens
    text_tokenizers.py OUT --tokenizer FILE.json   the same texts and checksums for a real tokenizer.json

OUT gets strings.bin (each text: length as u16, then UTF-8), and for each tokenizer NAME.json (a TokenizerSpec; bytes as
the characters U+0000 to U+00FF) and NAME.crc: for each text the CRC-32 of its ids as little-endian i32, with
special tokens in the text parsed, then -2, then with special tokens as text. --dump INDEX prints one text's ids.
"""
import argparse
import io
import json
import os
import struct
import zlib

from text_strings import strings

TEXTS, TEXTS_SEED, TRAIN_SEED = 10000, 20250711, 7
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
BEHAVIORS = {'isolated': 0, 'removed': 1, 'merged_with_previous': 2, 'merged_with_next': 3, 'contiguous': 4}
KINDS = {'byte': 0, 'sentencepiece_bpe': 1, 'unigram': 2, 'rwkv_world': 3}
NORMAL, UNKNOWN, CONTROL, USER, BYTE, UNUSED = range(6)


def byte_alphabet():
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    table, extra = {chr(b): b for b in printable}, 0x100
    for b in range(256):
        if b not in printable:
            table[chr(extra)] = b
            extra += 1
    return table


BYTE_OF = byte_alphabet()


def as_bytes(piece):
    return bytes(BYTE_OF[c] for c in piece) if all(c in BYTE_OF for c in piece) else piece.encode()


def latin(data):
    return data.decode('latin-1')


def spec_of_hf(parsed):
    """TokenizerSpec of a tokenizer.json, as far as the tokenizers made here (and SmolLM2's) need it."""
    model, spec = parsed['model'], {'pre_tokenizer': []}
    byte_level = (parsed.get('decoder') or {}).get('type') == 'ByteLevel'
    special = {t['content']: t for t in parsed['added_tokens']}

    def normalizer(part):
        if not part:
            return
        if part['type'] == 'Sequence':
            for inner in part['normalizers']:
                normalizer(inner)
        elif part['type'] == 'Prepend':
            spec['add_dummy_prefix'] = True
        elif part['type'] == 'Replace' and part['pattern'] == {'String': ' '}:
            spec['escape_whitespaces'] = True
        elif part['type'] in ('NFC', 'NFD', 'NFKC', 'NFKD'):
            spec['normalization'] = part['type'].lower()
        else:
            raise ValueError(part)

    def step(pattern, behavior='isolated', invert=False):
        spec['pre_tokenizer'].append({'pattern': pattern, 'behavior': BEHAVIORS[behavior], 'invert': invert})

    def pre_tokenizer(part):
        if not part:
            return
        if part['type'] == 'Sequence':
            for inner in part['pretokenizers']:
                pre_tokenizer(inner)
        elif part['type'] == 'ByteLevel':
            spec['add_prefix_space'] = part['add_prefix_space']
            if part['use_regex']:
                step(GPT2)
        elif part['type'] == 'Digits':
            step(r'\p{N}', 'isolated' if part['individual_digits'] else 'contiguous')
        elif part['type'] == 'Split':
            names = {'Isolated': 'isolated', 'Removed': 'removed', 'MergedWithPrevious': 'merged_with_previous',
                     'MergedWithNext': 'merged_with_next', 'Contiguous': 'contiguous'}
            step(part['pattern']['Regex'], names[part['behavior']], part['invert'])
        else:
            raise ValueError(part)

    normalizer(parsed['normalizer'])
    pre_tokenizer(parsed['pre_tokenizer'])
    size = 1 + max([*model['vocab'].values(), *(t['id'] for t in parsed['added_tokens'])])
    pieces, kinds = [b''] * size, [UNUSED] * size
    for piece, i in model['vocab'].items():
        pieces[i] = as_bytes(piece) if byte_level and piece not in special else piece.encode()
        kinds[i] = NORMAL
        if model['byte_fallback'] and len(piece) == 6 and piece.startswith('<0x'):
            kinds[i] = BYTE
    for token in parsed['added_tokens']:
        pieces[token['id']] = token['content'].encode()
        kinds[token['id']] = CONTROL if token['special'] else USER
    merges = [m.split(' ') if isinstance(m, str) else m for m in model['merges']]
    spec.update(kind=KINDS['byte' if byte_level else 'sentencepiece_bpe'], pieces=[latin(p) for p in pieces], kinds=kinds,
                merges=[i for m in merges for i in (model['vocab'][m[0]], model['vocab'][m[1]])],
                added_tokens=parsed['added_tokens'], byte_fallback=model['byte_fallback'],
                ignore_merges=model['ignore_merges'],
                unknown_id=model['vocab'].get(model['unk_token'], -1) if model['unk_token'] else -1)
    if spec['unknown_id'] >= 0:
        kinds[spec['unknown_id']] = UNKNOWN
    return spec


def spec_of_sentencepiece(proto_bytes):
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto.FromString(proto_bytes)
    kinds = {1: NORMAL, 2: UNKNOWN, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    norm, train = proto.normalizer_spec, proto.trainer_spec
    return {'kind': KINDS['unigram' if train.model_type == 1 else 'sentencepiece_bpe'],
            'pieces': [latin(p.piece.encode()) for p in proto.pieces], 'scores': [p.score for p in proto.pieces],
            'kinds': [kinds[p.type] for p in proto.pieces], 'normalization': norm.name,
            'add_dummy_prefix': norm.add_dummy_prefix, 'remove_extra_whitespaces': norm.remove_extra_whitespaces,
            'escape_whitespaces': norm.escape_whitespaces, 'byte_fallback': train.byte_fallback,
            'unknown_id': train.unk_id, 'bos_id': train.bos_id, 'eos_id': train.eos_id}


def hf_encoder(tokenizer):
    def encode(text, parse_special):
        tokenizer.encode_special_tokens = not parse_special
        return tokenizer.encode(text, add_special_tokens=False).ids
    return encode


def train_hf(corpus, normalizer, steps, size, added=(), extra_words=(), **options):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    # Training leaves the order of equally frequent pairs to chance; retraining changes the goldens, not what they test.
    parsed = json.loads(tokenizer.to_str())
    for word in extra_words:  # in the vocabulary, but no merge leads there
        parsed['model']['vocab'].setdefault(word, len(parsed['model']['vocab']))
    tokenizer = Tokenizer.from_str(json.dumps(parsed))
    for text, special, flags in added:
        token = AddedToken(text, special=special, **{'normalized': False, **flags})
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return spec_of_hf(json.loads(tokenizer.to_str())), hf_encoder(tokenizer)


def make_hf(corpus):
    from tokenizers import Regex, normalizers
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Split
    plain = lambda *texts: [(t, True, {}) for t in texts]
    chatml = plain('<|endoftext|>', '<|im_start|>', '<|im_end|>')
    split = lambda pattern, behavior='isolated', invert=False: Split(Regex(pattern), behavior, invert)
    last = ByteLevel(add_prefix_space=False, use_regex=False)
    yield 'gpt2_prefix', train_hf(
        corpus, None, [ByteLevel(add_prefix_space=True)], 900,
        plain('<s>', '</s>', '<|endoftext|>', '<pad>') + [
            ('<mask>', True, {'lstrip': True}), ('<right>', False, {'rstrip': True}), ('<word>', False, {'single_word': True}),
            ('<left>', False, {'lstrip': True, 'rstrip': True}), ('<|im_start', False, {}), ('<user>', False, {'normalized': True})])
    yield 'smollm', train_hf(corpus, None, [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)], 900, chatml)
    yield 'llama3', train_hf(corpus, None, [split(LLAMA3), last], 900,
                             plain('<|begin_of_text|>', '<|eot_id|>', '<|start_header_id|>'), ignore_merges=True,
                             extra_words=['Ġthings', 'Ġabout', 'ĠcamelCaseName', '====', '987', 'ĊĊĊĊ'])
    yield 'qwen2', train_hf(corpus, normalizers.NFC(), [split(LLAMA3.replace('{1,3}', '')), last], 900,
                            chatml + [('Å<norm>', False, {'normalized': True}), ('<user>', False, {})])
    yield 'nfkc_splits', train_hf(
        corpus, normalizers.NFKC(),
        [split(r'[-=]', 'merged_with_previous'), split(r'[#<]', 'merged_with_next'), split(r'\d', 'contiguous'),
         split(r'\|', 'removed'), split(r'[\w]+|[\r\n]', 'merged_with_previous', True), split(r'\p{Han}+|[^\W\d]\S'), last], 700,
        [('<s>', True, {'normalized': True}), ('<word>', False, {'normalized': True, 'single_word': True})])


def make_sentencepiece(corpus):
    import sentencepiece
    lines = [line for text in corpus for line in text.replace('\0', '').split('\n') if line.strip()]

    def train(**options):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, minloglevel=2,
                                                 num_threads=1, **options)
        processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
        return spec_of_sentencepiece(out.getvalue()), lambda text, _: processor.encode(text)

    yield 'sp_bpe', train(model_type='bpe', vocab_size=1100, byte_fallback=True, normalization_rule_name='identity',
                          remove_extra_whitespaces=False, character_coverage=.98,
                          user_defined_symbols=['<user>', '\n\n', '▁▁▁'])
    yield 'sp_unigram', train(model_type='unigram', vocab_size=1100, normalization_rule_name='nmt_nfkc',
                              character_coverage=.98, user_defined_symbols=['<user>'])
    yield 'sp_unigram_bytes', train(model_type='unigram', vocab_size=1100, byte_fallback=True, add_dummy_prefix=False,
                                    normalization_rule_name='identity', character_coverage=.98, split_by_whitespace=False)


def make_llama2(spec):
    """The first SentencePiece tokenizer as Llama 2's tokenizer.json has it: merges, and spaces by the normaliser."""
    from tokenizers import Tokenizer
    pieces = [p.encode('latin-1').decode() for p in spec['pieces']]
    ids = {p: i for i, p in enumerate(pieces)}
    merges = []
    for i, piece in enumerate(pieces):
        if spec['kinds'][i] != NORMAL:
            continue
        cuts = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in ids and piece[k:] in ids]
        merges += [(-spec['scores'][i], ids[a], ids[b], [a, b]) for a, b in cuts]
    space = {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '▁'},
                                                 {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}]}
    added = [{'id': ids[t], 'content': t, 'special': True, 'lstrip': False, 'rstrip': False, 'single_word': False,
              'normalized': False} for t in ('<unk>', '<s>', '</s>')]
    parsed = {'version': '1.0', 'added_tokens': added, 'normalizer': space, 'pre_tokenizer': None, 'post_processor': None,
              'decoder': None, 'truncation': None, 'padding': None,
              'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None,
                        'end_of_word_suffix': None, 'fuse_unk': True, 'byte_fallback': True, 'ignore_merges': False,
                        'vocab': ids, 'merges': [m[3] for m in sorted(merges)]}}
    tokenizer = Tokenizer.from_str(json.dumps(parsed))
    # Hugging Face takes the texts of control pieces out of the vocabulary wherever they are text; Linnet does not.
    return spec_of_hf(json.loads(tokenizer.to_str())), hf_encoder(tokenizer)


def make_rwkv(corpus):
    """World's rule by brute force: at each byte the longest piece of a vocabulary that holds all bytes."""
    import random
    r, found = random.Random(1), {}
    for text in corpus[:3000]:
        data = text.encode()
        for _ in range(8):
            at = r.randrange(len(data) + 1)
            word = data[at:at + r.choice([2, 2, 3, 3, 4, 5, 6, 9, 16])]
            if len(word) > 1:
                found[word] = found.get(word, 0) + 1
    pieces = [b'<|endoftext|>'] + [bytes([b]) for b in range(256)] + sorted(found, key=lambda w: (-found[w], w))[:700]
    ids = {p: i for i, p in enumerate(pieces) if i}
    longest = max(map(len, pieces))

    def encode(text, _):
        data, at, out = text.encode(), 0, []
        while at < len(data):
            size = next(n for n in range(longest, 0, -1) if at + n <= len(data) and data[at:at + n] in ids)
            out.append(ids[data[at:at + size]])
            at += size
        return out
    return {'kind': KINDS['rwkv_world'], 'pieces': [latin(p) for p in pieces],
            'kinds': [CONTROL] + [NORMAL] * (len(pieces) - 1)}, encode


def checksum(encode, text):
    ids = [*encode(text, True), -2, *encode(text, False)]
    return zlib.crc32(struct.pack(f'<{len(ids)}i', *ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out')
    parser.add_argument('--tokenizer')
    parser.add_argument('--dump', type=int)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    texts = strings(TEXTS, TEXTS_SEED)
    with open(os.path.join(args.out, 'strings.bin'), 'wb') as file:
        for text in texts:
            file.write(struct.pack('<H', len(text.encode())) + text.encode())
    if args.tokenizer:
        from tokenizers import Tokenizer
        with open(args.tokenizer) as file:
            parsed = json.load(file)
        made = [('real', (spec_of_hf(parsed), hf_encoder(Tokenizer.from_file(args.tokenizer))))]
    else:
        corpus = strings(20000, TRAIN_SEED)
        made = [*make_hf(corpus), *make_sentencepiece(corpus), ('rwkv_world', make_rwkv(corpus))]
        made.append(('llama2', make_llama2(dict(made)['sp_bpe'][0])))
    for name, (spec, encode) in made:
        if args.dump is not None:
            print(name, repr(texts[args.dump]), encode(texts[args.dump], True), encode(texts[args.dump], False))
            continue
        with open(os.path.join(args.out, name + '.json'), 'w') as file:
            json.dump(spec, file, ensure_ascii=False, separators=(',', ':'))
        with open(os.path.join(args.out, name + '.crc'), 'wb') as file:
            for text in texts:
                file.write(struct.pack('<I', checksum(encode, text)))


if __name__ == '__main__':
    main()
