"""What the oracle makers share: random weights, the tiny tokenizer and its prompt, running a model, writing a case.

Everything follows from the case's name and its seed alone, so a golden can be remade bit for bit with the library
versions its manifest names.
"""
import json
import math
import os
import platform
import re
import shutil
import zlib

import torch
from safetensors.torch import save_file

torch.set_num_threads(1)  # the order of sums, and so the last bits, must not depend on the machine
torch.set_grad_enabled(False)

VOCAB = 320
GREEDY_TOKENS = 16


# ---------------------------------------------------------------------------------------------- random weights
def generator(name, seed):
    """One stream per tensor name: adding a tensor to a model leaves the others as they were."""
    return torch.Generator().manual_seed((zlib.crc32(name.encode()) ^ (seed * 0x9E3779B1)) & 0x7FFFFFFF)


def random_tensor(name, shape, seed, unit_offset=False, tied=False):
    """A value that no identity hides: norms differ from one, biases from zero, decays cover short and long memory.

    unit_offset: norm weights are stored as w and applied as 1 + w (Gemma, Qwen3-Next, Qwen3.5).
    tied: the embedding is the head too, and is kept small enough for logits of the usual spread.
    """
    g = generator(name, seed)
    leaf = name.split('.')[-1]
    normal = torch.randn(tuple(shape), generator=g)
    uniform = torch.rand(tuple(shape), generator=g)
    if leaf == 'A_log':
        return torch.log(0.15 + 2.85 * uniform)
    if leaf == 'dt_bias':
        return -4.0 + 4.5 * uniform
    if leaf == 'D':
        return 1 + 0.5 * normal
    if leaf == 'e_score_correction_bias':
        return 0.3 * normal
    if leaf == 'weight' and len(shape) == 3 and shape[1] == 1:  # depthwise convolution
        return 0.6 * normal
    if 'embed' in name and len(shape) == 2:
        return normal * 2.5 / math.sqrt(shape[-1]) if tied else normal
    if len(shape) == 1 and leaf == 'weight':
        return (0.0 if unit_offset else 1.0) + 0.3 * normal
    if len(shape) == 1:
        return 0.3 * normal
    gain = 1.0
    if re.search(r'(q|k|o|out|down)_proj', name):
        gain = 1.6  # peaked attention, and branches that weigh as much as the residual
    if 'lm_head' in name:
        gain = 2.0
    return normal * gain / math.sqrt(shape[-1])


def randomise(model, seed, dtype, unit_offset=lambda name: False, rule=None):
    """Fills every parameter; values are rounded to the stored dtype first, so that
    computing in f32 is exact with respect to the file."""
    seen = set()
    for name, p in list(model.named_parameters()) + list(saved_buffers(model)):
        if id(p) in seen:
            continue
        seen.add(id(p))
        value = rule(name, p.shape, seed) if rule else None
        if value is None:
            value = random_tensor(name, p.shape, seed, unit_offset(name), model.config.tie_word_embeddings)
        assert value.shape == p.shape, (name, value.shape, p.shape)
        p.copy_(value.to(dtype).to(p.dtype))
    return model.eval()


def saved_buffers(model):
    """Trained values that are buffers; other saved buffers (decay tables) follow from the config and stay."""
    return [(n, b) for n, b in model.named_buffers() if n.endswith('e_score_correction_bias')]


# ------------------------------------------------------------------------------------------ tokenizer and prompt
TEXT = (
    "Linear attention keeps a state of fixed size, so the cost of a token does not grow with the length "
    "of the text. The runtime reads 1,234 weights, updates the state and writes 56 logits; then it repeats. "
    "Ein Gerät ohne GPU – naïve café, 漢字 и ещё немного текста. def f(x):\n    return x * 2  # ok?\n"
    "It's the edge device's job: measure 3.14 ms, don't guess! \"Quoted\", (bracketed) and so on...\n\n"
    "A sequence of seventy tokens crosses the chunk boundary at sixty-four, which is exactly the point. "
)
CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                 "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
                 "{% endif %}")


def make_tokenizer():
    """Byte-level BPE of 320 entries: 256 bytes, 61 merges, 3 special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([TEXT * 3], trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def save_tokenizer(folder):
    make_tokenizer().save(os.path.join(folder, 'tokenizer.json'), pretty=False)
    write_json(os.path.join(folder, 'tokenizer_config.json'), {
        'tokenizer_class': 'PreTrainedTokenizerFast', 'model_max_length': 2048, 'bos_token': '<|endoftext|>',
        'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'unk_token': None, 'add_bos_token': False,
        'clean_up_tokenization_spaces': False, 'chat_template': CHAT_TEMPLATE})


def prompt_ids(name, tokens):
    """[1, tokens] ids of real text, starting at a place that depends on the case."""
    ids = make_tokenizer().encode(TEXT * 4, add_special_tokens=False).ids
    start = zlib.crc32(name.encode()) % 200
    assert start + tokens <= len(ids)
    return torch.tensor([ids[start:start + tokens]])


# ---------------------------------------------------------------------------------------------------- running
def full_logits(model, ids):
    """f32 [1, T, vocab], all positions in one call without a cache."""
    return model(input_ids=ids, use_cache=False).logits.float()


def greedy(model, ids, count=GREEDY_TOKENS):
    """Argmax continuation by full recomputation, and each step's distance between the best and the second logit."""
    x, margins = ids.clone(), []
    for _ in range(count):
        top = full_logits(model, x)[0, -1].topk(2)
        margins.append(float(top.values[0] - top.values[1]))
        x = torch.cat([x, top.indices[:1].view(1, 1)], 1)
    return x[0, ids.shape[1]:].clone(), torch.tensor(margins)


def stepwise_logits(model, ids):
    """One token a call through the model's own cache: the official code against itself, so the noise floor.
    [T, vocab]. More than one token with a filled cache is avoided: several hybrids get that wrong."""
    past, rows = None, []
    name = 'cache_params' if type(model).__module__.startswith('transformers.models.mamba') else 'past_key_values'
    for t in range(ids.shape[1]):
        kw = {name: past} if past is not None else {}
        if name == 'past_key_values':
            kw['position_ids'] = torch.tensor([[t]])
        out = model(input_ids=ids[:, t:t + 1], use_cache=True, **kw)
        past = getattr(out, name)
        rows.append(out.logits[0, -1].float())
    return torch.stack(rows)


def prefix_logits(model, ids, positions):
    """Logits of some positions, each from a forward over the tokens up to it alone. [n, vocab]"""
    return torch.stack([full_logits(model, ids[:, :t + 1])[0, -1] for t in positions])


def prefix_noise(model, ids, logits):
    """max |d logits| of a model against itself over growing prefixes, at kept_positions."""
    keep = kept_positions(ids.shape[1])
    return float((prefix_logits(model, ids, keep) - logits[0, keep]).abs().max())


def conditioning(model, ids, base, relative=1e-6):
    """max |d logits| when every parameter gets relative noise: how far the network amplifies f32 rounding."""
    old = {n: p.detach().clone() for n, p in model.named_parameters()}
    for n, p in model.named_parameters():
        p.mul_(1 + relative * torch.randn(p.shape, generator=generator(n, 77)))
    change = float((full_logits(model, ids) - base).abs().max())
    for n, p in model.named_parameters():
        p.copy_(old[n])
    return change


def least_sensitive(model, ids, base, relative=0.02):
    """The parameter tensor whose 2% perturbation moves the logits least: (name, max |d logits|). A golden in which
    some tensor does not matter would not notice an importer that drops it."""
    worst = ('', math.inf)
    for name, p in model.named_parameters():
        old = p.detach().clone()
        p.mul_(1 + relative * torch.randn(p.shape, generator=generator(name, 123)))
        change = float((full_logits(model, ids) - base).abs().max())
        p.copy_(old)
        worst = min(worst, (name, change), key=lambda x: x[1])
    return worst


# ---------------------------------------------------------------------------------------------------- writing
def write_json(path, value):
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(value, f, indent=1, default=float)
        f.write('\n')


def fresh_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def versions():
    import safetensors
    import tokenizers
    import transformers
    return {'python': platform.python_version(), 'torch': torch.__version__, 'transformers': transformers.__version__,
            'tokenizers': tokenizers.__version__, 'safetensors': safetensors.__version__}


def tolerance(noise, logits):
    """Absolute bounds on logits for an f32 runtime: 1e-4 of their spread, or ten times the official noise."""
    spread = float(logits.std())
    return {'logits_max_abs_f32': float('%.2g' % max(1e-4 * spread, 10 * noise)),
            'logits_max_abs_bf16_activations': float('%.2g' % (0.06 * spread)),
            'note': 'max |runtime - reference| over the stored positions and the vocabulary. logits std %.3f, official '
                    'noise floor %.2e. greedy_ids must be equal for an f32 runtime.' % (spread, noise)}


def kept_positions(tokens):
    """Positions around the edges of blocks and chunks, and the ends; each depends on all that came before it."""
    keep = set()
    for edge in (1, 16, 32, 64, 128, 192, 256, tokens - 2):
        keep.update(p for p in range(edge - 2, edge + 2) if 0 <= p < tokens)
    return sorted(keep)


def write_reference(folder, ids, logits, greedy_ids, margins):
    """logits [1, n, vocab] are those of the n `positions`: all positions would be most of the repository."""
    keep = kept_positions(ids.shape[1])
    tensors = {'input_ids': ids, 'positions': torch.tensor(keep), 'logits': logits[:, keep],
               'greedy_ids': greedy_ids, 'greedy_margins': margins}
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, 'reference.safetensors'))
