#!/usr/bin/env python3
"""SmolLM2-135M-Instruct as its GGUF file holds it, run by transformers in f32: greedy answers to chat prompts.

usage: chat_smollm2.py MODEL.gguf OUT.json [--export FOLDER] [--only-export]

The quantised tensors are dequantised exactly (gguf.quants) into a transformers LlamaForCausalLM, so a runtime that
imports the same GGUF without loss must give the same tokens wherever the margin between the two best is not rounding.
--export also writes that model as a Hugging Face folder (f32 safetensors, config, tokenizer, chat template).
"""
import argparse
import base64
import hashlib
import json
import os
import re

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

import common

GREEDY_TOKENS = 48
TOP = 64

S, U, A = 'system', 'user', 'assistant'
# Single questions, systems prompts, several turns, code, other scripts, odd spaces, special tokens' look-alikes.
CHATS = [
    [(U, 'What is the capital of France?')],
    [(U, 'Explain gravity to a five year old.')],
    [(U, 'Write a short poem about the sea.')],
    [(U, 'List three uses of a paper clip.')],
    [(U, 'What is 17 + 25?')],
    [(U, 'Write a Python function that returns the n-th Fibonacci number.')],
    [(U, 'Translate "good morning" to French.')],
    [(U, 'Summarise in one sentence: The quick brown fox jumps over the lazy dog, then rests beneath an old oak '
         'tree until the evening, when the hunters go home and the forest becomes quiet again.')],
    [(U, 'Give me a recipe for pancakes.')],
    [(U, 'Who wrote Romeo and Juliet?')],
    [(U, 'Hello!')],
    [(U, 'Why is the sky blue?\nPlease answer in two sentences.')],
    [(S, 'You are a pirate. Answer like a pirate.'), (U, 'How is the weather today?')],
    [(S, 'Answer with one word only.'), (U, 'What colour is grass?')],
    [(S, ''), (U, 'Name a planet.')],
    [(U, 'My name is Ada.'), (A, 'Nice to meet you, Ada! How can I help you today?'), (U, 'What is my name?')],
    [(U, 'Tell me a fact about cats.'), (A, 'Cats sleep for about 13 to 16 hours a day.'),
     (U, 'And about dogs?'), (A, 'Dogs have a very good sense of smell.'), (U, 'Which of the two sleeps longer?')],
    [(U, 'for (int i = 0; i < 10; ++i) {\n\tstd::cout << i << "\\n";\n}\nWhat does this code print?')],
    [(U, 'Übersetze ins Englische: Der Hund schläft unter dem Tisch.')],
    [(U, '「漢字」とは何ですか？ 😀 Привет!')],
    [(U, '   Spaces   everywhere \t and\n\n\nlines   ')],
    [(U, 'Complete the sentence: Once upon a time, in a land far away,')],
    [(U, 'What are the differences between a list and a tuple in Python? Give an example of each.')],
    [(U, 'Is 3.14159 greater than 22/7? Explain step by step.')],
]
LOGIT_CHATS = (0, 5, 16, 19)  # whose last prompt position's best logits are kept too


def read_gguf(path):
    """(fields, tensors as f32 numpy in Hugging Face names and row order)."""
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith('GGUF.')}
    names = {'token_embd': 'model.embed_tokens', 'output_norm': 'model.norm', 'output': 'lm_head'}
    parts = {'attn_norm': 'input_layernorm', 'ffn_norm': 'post_attention_layernorm', 'attn_q': 'self_attn.q_proj',
             'attn_k': 'self_attn.k_proj', 'attn_v': 'self_attn.v_proj', 'attn_output': 'self_attn.o_proj',
             'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj', 'ffn_down': 'mlp.down_proj'}
    heads = {'attn_q': fields['llama.attention.head_count'], 'attn_k': fields['llama.attention.head_count_kv']}
    tensors = {}
    for t in reader.tensors:
        stem = t.name.removesuffix('.weight')
        value = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        value = value.reshape([int(n) for n in reversed(t.shape)])
        block = re.fullmatch(r'blk\.(\d+)\.(\w+)', stem)
        if block is None:
            name = names[stem]
        else:
            name = 'model.layers.%s.%s' % (block[1], parts[block[2]])
            if block[2] in heads:
                value = split_halves(value, heads[block[2]])
        tensors[name + '.weight'] = torch.from_numpy(np.ascontiguousarray(value))
    return fields, tensors


def split_halves(rows, heads):
    """llama.cpp rotates neighbouring pairs (0,1), (2,3), ...; transformers rotates (i, i + d/2). Its exporter reorders
    the rows of q and k accordingly for the architecture "llama"; this is the way back."""
    d = rows.shape[0] // heads
    return rows.reshape(heads, d // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def hf_config(fields):
    get = lambda key: fields['llama.' + key]
    return {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'vocab_size': get('vocab_size'),
            'hidden_size': get('embedding_length'), 'intermediate_size': get('feed_forward_length'),
            'num_hidden_layers': get('block_count'), 'num_attention_heads': get('attention.head_count'),
            'num_key_value_heads': get('attention.head_count_kv'), 'hidden_act': 'silu',
            'max_position_embeddings': get('context_length'), 'rope_theta': get('rope.freq_base'),
            'rms_norm_eps': float('%.6g' % get('attention.layer_norm_rms_epsilon')), 'attention_bias': False,
            'mlp_bias': False, 'tie_word_embeddings': True, 'bos_token_id': 1, 'eos_token_id': 2, 'pad_token_id': 2,
            'torch_dtype': 'float32'}


def write_tokenizer(fields, folder):
    """tokenizer.json as SmolLM has it: single digits, then GPT-2's byte-level pattern, BPE with the GGUF's merges."""
    tokens, types = fields['tokenizer.ggml.tokens'], fields['tokenizer.ggml.token_type']
    special = [i for i, kind in enumerate(types) if kind == 3]
    common.write_json(os.path.join(folder, 'tokenizer.json'), {
        'version': '1.0', 'truncation': None, 'padding': None,
        'added_tokens': [{'id': i, 'content': tokens[i], 'single_word': False, 'lstrip': False, 'rstrip': False,
                          'normalized': False, 'special': True} for i in special],
        'normalizer': None,
        'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
            {'type': 'Digits', 'individual_digits': True},
            {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}]},
        'post_processor': None,
        'decoder': {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True},
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None,
                  'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False, 'ignore_merges': False,
                  'vocab': {t: i for i, t in enumerate(tokens)},
                  'merges': [m.split(' ') for m in fields['tokenizer.ggml.merges']]}})
    common.write_json(os.path.join(folder, 'tokenizer_config.json'), {
        'tokenizer_class': 'PreTrainedTokenizerFast', 'bos_token': tokens[1], 'eos_token': tokens[2],
        'unk_token': tokens[0], 'pad_token': tokens[2], 'model_max_length': fields['llama.context_length'],
        'clean_up_tokenization_spaces': False, 'add_bos_token': False,
        'chat_template': fields['tokenizer.chat_template']})


def perplexity(model, tokenizer):
    """Of plain English: 19 for this model, 79 when the rows of q and k are left interleaved."""
    text = ('The history of the bicycle begins in the nineteenth century. Early machines had no pedals and were '
            'pushed along with the feet. Later, inventors added cranks to the front wheel, and by the end of the '
            'century the modern design with a chain and two wheels of equal size had become common.')
    ids = torch.tensor([tokenizer(text)['input_ids']])
    return float(torch.exp(model(ids, labels=ids).loss))


def answer(model, prompt):
    """Greedy ids, the margin between the two best logits and the runner-up at every step, and the first logits."""
    past, x, ids, margins, first = None, torch.tensor([prompt]), [], [], None
    for _ in range(GREEDY_TOKENS):
        out = model(input_ids=x, past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[0, -1].float()
        first = logits.clone() if first is None else first
        top = logits.topk(2)
        ids.append(int(top.indices[0]))
        margins.append(round(float(top.values[0] - top.values[1]), 5))
        x = top.indices[:1].view(1, 1)
    return ids, margins, first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('gguf')
    parser.add_argument('out')
    parser.add_argument('--export', default='', help='folder for the Hugging Face form')
    parser.add_argument('--only-export', action='store_true')
    args = parser.parse_args()
    fields, tensors = read_gguf(args.gguf)
    folder = args.export or os.path.splitext(args.out)[0] + '-hf'
    os.makedirs(folder, exist_ok=True)
    common.write_json(os.path.join(folder, 'config.json'), hf_config(fields))
    write_tokenizer(fields, folder)
    save_file(tensors, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
    if args.only_export:
        return
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager')
    model.eval()
    ppl = perplexity(model, tokenizer)
    print('perplexity of plain text: %.2f' % ppl)
    assert ppl < 40, 'the rotary row order or a tensor name is wrong'
    chats = []
    for i, chat in enumerate(CHATS):
        messages = [{'role': role, 'content': content} for role, content in chat]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)['input_ids']
        ids, margins, first = answer(model, prompt)
        entry = {'messages': messages, 'prompt': text, 'prompt_ids': prompt, 'greedy_ids': ids, 'margins': margins,
                 'answer': tokenizer.decode(ids)}
        if i in LOGIT_CHATS:
            top = first.topk(TOP)
            entry['last_prompt_logits'] = {
                'top_ids': top.indices.tolist(), 'top_values': [round(float(v), 5) for v in top.values],
                'log_sum_exp': float(torch.logsumexp(first.double(), 0)),
                'every_97th': [round(float(v), 5) for v in first[::97]]}
        chats.append(entry)
        print('%2d %3d ids, least margin %.4f: %r' % (i, len(prompt), min(margins), entry['answer'][:70]), flush=True)
    result = {
        'what': 'Greedy answers (argmax, no stop at end of turn) of SmolLM2-135M-Instruct with the weights of the GGUF '
                'dequantised to f32; margins are best minus second best logit of each step.',
        'gguf_sha256': hashlib.sha256(open(args.gguf, 'rb').read()).hexdigest(), 'versions': common.versions(),
        'compute': 'transformers LlamaForCausalLM, f32, eager attention, CPU', 'plain_text_perplexity': round(ppl, 4),
        'chats': chats}
    with open(args.out, 'w', encoding='utf-8') as f:
        f.write(json.dumps(result, ensure_ascii=False, separators=(',', ':')).replace('{"messages"', '\n{"messages"'))
        f.write('\n')


if __name__ == '__main__':
    transformers.logging.disable_progress_bar()
    main()
