"""Cases of the softmax decoder families. `config` is written to config.json as it stands, in the key style of the
published checkpoints (rope_theta, rope_scaling, torch_dtype), and is what transformers itself reads back."""
import math

import common

CASES = {}


def case(name, what, tokens=70, dtype='float32', shards=False, rule=None, **config):
    base = {'vocab_size': 320, 'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2,
            'num_attention_heads': 4, 'num_key_value_heads': 2, 'hidden_act': 'silu', 'max_position_embeddings': 2048,
            'rms_norm_eps': 1e-5, 'rope_theta': 10000.0, 'tie_word_embeddings': False, 'attention_dropout': 0.0,
            'initializer_range': 0.02, 'use_cache': True, 'bos_token_id': 0, 'eos_token_id': 2, 'torch_dtype': dtype}
    base.update(config)
    config = {k: v for k, v in base.items() if v is not None}
    CASES[name] = {'what': what, 'tokens': tokens, 'dtype': dtype, 'shards': shards, 'rule': rule,
                   'config': config}


def gemma2_rule(name, shape, seed):
    """A small embedding and a large final norm: Gemma scales its embedding by sqrt(hidden), and with a tied head of
    the usual size every answer would be the last token again."""
    normal = common.torch.randn(tuple(shape), generator=common.generator(name, seed))
    if 'embed_tokens' in name:
        return 0.5 * normal / math.sqrt(shape[-1])
    return 4 + normal if name == 'model.norm.weight' else None


def llama(name, what, **kw):
    case(name, what, architectures=['LlamaForCausalLM'], model_type='llama',
         **{'attention_bias': False, 'mlp_bias': False, 'rope_scaling': None, **kw})


llama('llama_tied_long', 'Llama, tied head, rope theta 500000, 257 tokens, stored in bf16.', tokens=257,
      dtype='bfloat16', tie_word_embeddings=True, rope_theta=500000.0)
llama('llama_rope_llama3', 'Llama 3.1 rope scaling; the original context is short so that all three bands of '
      'frequencies occur. Head dimension 24 is not hidden/heads. Two safetensors shards with an index, f16.',
      tokens=257, dtype='float16', shards=True, head_dim=24, rope_theta=500000.0, tie_word_embeddings=True,
      rope_scaling={'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                    'original_max_position_embeddings': 64, 'rope_type': 'llama3'})
llama('llama_rope_yarn', 'YaRN with the default attention factor 0.1 ln(factor) + 1 on cos and sin.', tokens=257,
      dtype='bfloat16', head_dim=32,
      rope_scaling={'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 64, 'beta_fast': 32.0,
                    'beta_slow': 1.0})
llama('llama_rope_yarn_explicit', 'YaRN with an explicit attention_factor and betas, under the older key "type".',
      dtype='bfloat16', tie_word_embeddings=True, head_dim=32, rope_theta=1000.0,
      rope_scaling={'type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 32, 'attention_factor': 0.8,
                    'beta_fast': 16.0, 'beta_slow': 2.0})
llama('llama_rope_linear', 'Linear position interpolation, factor 4.', dtype='bfloat16', tie_word_embeddings=True,
      rope_scaling={'type': 'linear', 'factor': 4.0})
llama('llama_biases', 'Llama with biases in attention and MLP, one query head per key head, head dimension 20, f32.',
      attention_bias=True, mlp_bias=True, num_attention_heads=3, num_key_value_heads=3, head_dim=20, hidden_size=48,
      intermediate_size=80, tie_word_embeddings=True)

case('mistral_window', 'Mistral, every layer with a sliding window of 16, below the 70 tokens.', dtype='bfloat16',
     architectures=['MistralForCausalLM'], model_type='mistral', sliding_window=16)
case('mistral_window_long', 'Mistral, window 40, 257 tokens, one key head, head dimension 24.', tokens=257,
     dtype='bfloat16', architectures=['MistralForCausalLM'], model_type='mistral', sliding_window=40,
     num_key_value_heads=1, head_dim=24, rope_theta=1000000.0, tie_word_embeddings=True)
case('qwen2', 'Qwen2.5: biases in q, k and v, tied head, no window (use_sliding_window false).', tokens=257,
     dtype='bfloat16', architectures=['Qwen2ForCausalLM'], model_type='qwen2', use_sliding_window=False,
     sliding_window=16, max_window_layers=1, rope_theta=1000000.0, rms_norm_eps=1e-6, tie_word_embeddings=True)
case('qwen2_window', 'Qwen2 with use_sliding_window: layer 0 full, the layers from max_window_layers on with a '
     'window of 16.', dtype='bfloat16', architectures=['Qwen2ForCausalLM'], model_type='qwen2',
     use_sliding_window=True, sliding_window=16, max_window_layers=1, num_hidden_layers=3, rope_theta=1000000.0,
     rms_norm_eps=1e-6, tie_word_embeddings=True)
case('qwen3', 'Qwen3 dense: RMS norm of q and k per head before rotation, head dimension 24, untied head.', tokens=257,
     dtype='bfloat16', architectures=['Qwen3ForCausalLM'], model_type='qwen3', head_dim=24, use_sliding_window=False,
     sliding_window=None, max_window_layers=2, rope_theta=1000000.0, rms_norm_eps=1e-6, attention_bias=False)
case('qwen3_biases', 'Qwen3 with attention_bias, tied head, f16.', dtype='float16', architectures=['Qwen3ForCausalLM'],
     model_type='qwen3', head_dim=16, use_sliding_window=False, max_window_layers=2, hidden_size=48,
     intermediate_size=80, rope_theta=1000000.0, rms_norm_eps=1e-6, attention_bias=True, tie_word_embeddings=True)
for suffix, tokens, window in (('', 70, 16), ('_long', 257, 40)):
    case('gemma2' + suffix, 'Gemma-2: four (1+w) norms a layer, tanh GeLU, scaled embedding, soft caps small enough to '
         'bite, window in even layers only, query_pre_attn_scalar 20 (not the head dimension 16).', tokens=tokens,
         rule=gemma2_rule, dtype='bfloat16', architectures=['Gemma2ForCausalLM'], model_type='gemma2', head_dim=16,
         num_hidden_layers=3, hidden_act='gelu_pytorch_tanh', hidden_activation='gelu_pytorch_tanh',
         query_pre_attn_scalar=20, sliding_window=window, attn_logit_softcapping=4.0, final_logit_softcapping=6.0,
         cache_implementation='hybrid', tie_word_embeddings=True, attention_bias=False, rms_norm_eps=1e-6,
         hidden_size=48, intermediate_size=80)
