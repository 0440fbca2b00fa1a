"""Goldens of tokenizers (tests/golden/text): real tokenizer libraries on 10,000 hard texts.

    text_tokenizers.py golden/text --committed     remakes the committed goldens
    text_tokenizers.py OUT                         the same with the ids themselves, to look at
    text_tokenizers.py OUT --tokenizer FILE.json   the same texts and checksums for a real tokenizer.json
    text_tokenizers.py OUT --gguf FILE.gguf        the same for the tokenizer of a GGUF file with SmolLM's or GPT-2's rules

OUT gets strings.bin (each text: length as u16, then UTF-8), and for each tokenizer what a checkpoint would hold,
NAME.tokenizer.json, NAME.model or NAME.gguf (RWKV World, whose rule is done here by brute force: NAME.spec.json, bytes as the
characters U+0000 to U+00FF), and NAME.crc: for each text the CRC-32 of its ids as little-endian i32, with special tokens
in the text parsed, then -2, then with special tokens as text. NAME.ids has the two lists of each text as a line of JSON.
"""
import argparse
import io
import json
import os
import pathlib
import struct
import zlib

from text_strings import strings

TEXTS, TEXTS_SEED, TRAIN_SEED = 10000, 20250711, 7
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
NORMAL, CONTROL = 0, 2


def latin(data):
    return data.decode('latin-1')


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
    return tokenizer.to_str(), hf_encoder(tokenizer)


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
        return out.getvalue(), lambda text, _: processor.encode(text)

    yield 'sp_bpe', train(model_type='bpe', vocab_size=1100, byte_fallback=True, normalization_rule_name='identity',
                          remove_extra_whitespaces=False, character_coverage=.98,
                          user_defined_symbols=['<user>', '\n\n', '▁▁▁'])
    yield 'sp_unigram', train(model_type='unigram', vocab_size=1100, normalization_rule_name='nmt_nfkc',
                              character_coverage=.98, user_defined_symbols=['<user>'])
    yield 'sp_unigram_bytes', train(model_type='unigram', vocab_size=1100, byte_fallback=True, add_dummy_prefix=False,
                                    normalization_rule_name='identity', character_coverage=.98, split_by_whitespace=False)


def make_converted(models):
    """SentencePiece models as the tokenizer.json files of real checkpoints have them."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models as m, normalizers as n, pre_tokenizers as p
    read = sentencepiece_model_pb2.ModelProto.FromString
    bpe, unigram = read(models['sp_bpe']), read(models['sp_unigram'])
    ids = {piece.piece: i for i, piece in enumerate(bpe.pieces)}
    merges = []
    for piece in bpe.pieces:
        if piece.type == 1:
            text = piece.piece
            cuts = [(text[:k], text[k:]) for k in range(1, len(text)) if text[:k] in ids and text[k:] in ids]
            merges += [(-piece.score, ids[a], ids[b], (a, b)) for a, b in cuts]
    merges = [x[3] for x in sorted(merges)]
    scores = [(piece.piece, piece.score) for piece in unigram.pieces]
    map_ = unigram.normalizer_spec.precompiled_charsmap

    special = ('<unk>', '<s>', '</s>')

    def made(model, normalizer, pre_tokenizer, words=(), model_of_text=None):
        def build(model, special):
            tokenizer = Tokenizer(model)
            if normalizer:
                tokenizer.normalizer = normalizer
            if pre_tokenizer:
                tokenizer.pre_tokenizer = pre_tokenizer
            tokenizer.decoder = decoders.Metaspace()
            tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
            tokenizer.add_tokens([AddedToken(t, normalized=True) for t in words])
            return tokenizer
        tokenizer = build(model, special)
        parsed = hf_encoder(tokenizer)
        as_text = hf_encoder(build(model_of_text, ())) if model_of_text else parsed
        return tokenizer.to_str(), lambda text, parse: (parsed if parse else as_text)(text, parse)

    def pieces():
        return m.BPE(vocab=ids, merges=merges, unk_token='<unk>', fuse_unk=True, byte_fallback=True)

    def scored(scores=scores):
        return m.Unigram(scores, unk_id=0, byte_fallback=False)

    # Hugging Face's unigram model finds the texts of control pieces in plain text; Linnet does not. There they are
    # expected to be as the same model gives them with its control pieces renamed.
    renamed = [('\U0010fffd%d' % i if text in special else text, score) for i, (text, score) in enumerate(scores)]
    yield 'llama2', made(pieces(), n.Sequence([n.Prepend('▁'), n.Replace(' ', '▁')]), None)
    yield 'llama2_first', made(pieces(), None, p.Metaspace(prepend_scheme='first', split=False), ['<user>'])
    yield 'gemma', made(pieces(), n.Replace(' ', '▁'), p.Split(' ', 'merged_with_previous'))
    yield 't5', made(scored(), n.Precompiled(map_), p.Sequence([p.WhitespaceSplit(), p.Metaspace()]),
                     model_of_text=scored(renamed))
    yield 't5_converted', made(
        scored(), n.Sequence([n.Precompiled(map_), n.Strip(left=False, right=True), n.Replace(Regex(' {2,}'), '▁')]),
        p.Metaspace(), ['<word>'], scored(renamed))


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
    return {'kind': 3, 'pieces': [latin(p) for p in pieces],
            'kinds': [CONTROL] + [NORMAL] * (len(pieces) - 1)}, encode


def gguf_of_hf(text, path):
    """The vocabulary of a tokenizer.json in SmolLM's pattern as the GGUF files of llama.cpp have it, without tensors."""
    import gguf
    parsed = json.loads(text)
    added = {t['id']: t for t in parsed['added_tokens']}
    pieces = {i: piece for piece, i in parsed['model']['vocab'].items()} | {i: t['content'] for i, t in added.items()}
    writer = gguf.GGUFWriter(path, 'llama')
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre('smollm')
    writer.add_token_list([pieces[i] for i in range(len(pieces))])
    writer.add_token_types([3 if i in added else 1 for i in range(len(pieces))])
    writer.add_token_merges([' '.join(m) for m in parsed['model']['merges']])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def hf_of_gguf(path):
    """The tokenizer of a GGUF file, as Hugging Face tokenizers would run it."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers as p
    fields = gguf.GGUFReader(path).fields
    text = lambda f, i: bytes(f.parts[i]).decode()
    get = lambda key: [text(fields[key], i) for i in fields[key].data]
    pieces, types = get('tokenizer.ggml.tokens'), fields['tokenizer.ggml.token_type']
    types = [int(types.parts[i][0]) for i in types.data]
    rules = get('tokenizer.ggml.pre')[0] if 'tokenizer.ggml.pre' in fields else 'default'
    assert rules in ('smollm', 'gpt-2', 'default'), rules
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(pieces)},
                                     merges=[tuple(m.split(' ')) for m in get('tokenizer.ggml.merges')]))
    digits = [p.Digits(individual_digits=True)] if rules == 'smollm' else []
    tokenizer.pre_tokenizer = p.Sequence(digits + [p.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(pieces, types) if k == 3])
    return hf_encoder(tokenizer)


def checksum(parsed, as_text):
    ids = [*parsed, -2, *as_text]
    return zlib.crc32(struct.pack(f'<{len(ids)}i', *ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out')
    parser.add_argument('--tokenizer')
    parser.add_argument('--gguf')
    parser.add_argument('--committed', action='store_true')
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    texts = strings(TEXTS, TEXTS_SEED)
    with open(os.path.join(args.out, 'strings.bin'), 'wb') as file:
        for text in texts:
            file.write(struct.pack('<H', len(text.encode())) + text.encode())
    if args.tokenizer:
        from tokenizers import Tokenizer
        with open(args.tokenizer) as file:
            made = [('real', (file.read(), hf_encoder(Tokenizer.from_file(args.tokenizer))))]
    elif args.gguf:
        made = [('real', (pathlib.Path(args.gguf), hf_of_gguf(args.gguf)))]
    else:
        corpus = strings(20000, TRAIN_SEED)
        made = [*make_hf(corpus), *make_sentencepiece(corpus), ('rwkv_world', make_rwkv(corpus))]
        made += make_converted({name: source for name, (source, _) in made})
        smollm = dict(made)['smollm']
        gguf_of_hf(smollm[0], os.path.join(args.out, 'smollm_gguf.gguf'))
        made.append(('smollm_gguf', (None, smollm[1])))
    for name, (source, encode) in made:
        path = os.path.join(args.out, name)
        if isinstance(source, pathlib.Path):
            os.symlink(source.resolve(), path + '.gguf')
        elif source is None:
            pass
        elif isinstance(source, bytes):
            with open(path + '.model', 'wb') as file:
                file.write(source)
        else:
            kind = '.tokenizer.json' if isinstance(source, str) else '.spec.json'
            with open(path + kind, 'w') as file:
                json.dump(json.loads(source) if isinstance(source, str) else source, file, ensure_ascii=False,
                          separators=(',', ':'))
        with open(path + '.crc', 'wb') as file, open(os.devnull if args.committed else path + '.ids', 'w') as ids:
            for text in texts:
                both = encode(text, True), encode(text, False)
                file.write(struct.pack('<I', checksum(*both)))
                ids.write(json.dumps(both) + '\n')


if __name__ == '__main__':
    main()
