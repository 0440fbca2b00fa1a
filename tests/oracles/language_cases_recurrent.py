"""Cases of the recurrent and hybrid families that transformers has. Configs are in the key style of the published
checkpoints; `router` names the module whose output scores the experts."""
import re

import torch

CASES = {}
F32_PARTS = ('A_log', 'dt_bias', '.D')  # published in f32 beside bf16 weights


def case(name, what, config, tokens=70, dtype='bfloat16', router=None, keep_f32=(), published=None, cache_differs=''):
    config = {'vocab_size': 320, 'hidden_size': 64, 'rms_norm_eps': 1e-6, 'hidden_act': 'silu', 'use_cache': True,
              'initializer_range': 0.02, 'bos_token_id': 0, 'eos_token_id': 2, 'torch_dtype': dtype, **config}
    CASES[name] = {'what': what, 'tokens': tokens, 'dtype': dtype, 'shards': False, 'rule': None, 'config': config,
                   'router': router, 'keep_f32': keep_f32, 'published': published,
                   'cache_differs': cache_differs}


# ----------------------------------------------------------------------------------------------------- Mamba-2
def mamba2(name, what, tokens=70, dtype='bfloat16', cache_differs='', **config):
    base = {'architectures': ['Mamba2ForCausalLM'], 'model_type': 'mamba2', 'num_hidden_layers': 2, 'expand': 2,
            'conv_kernel': 4, 'chunk_size': 64, 'use_conv_bias': True, 'use_bias': False, 'layer_norm_epsilon': 1e-5,
            'residual_in_fp32': True, 'rms_norm': True, 'norm_before_gate': False, 'time_step_rank': 4,
            'time_step_min': 0.001, 'time_step_max': 0.1, 'time_step_floor': 1e-4,
            'time_step_limit': [0.0, float('inf')], 'rescale_prenorm_residual': False, 'tie_word_embeddings': True,
            'pad_token_id': 0}
    base.update(config)
    case(name, what, base, tokens, dtype, keep_f32=F32_PARTS, cache_differs=cache_differs)


mamba2('mamba2_groups1', 'Mamba-2 as the state-spaces releases: one group, tied head, convolution bias only, 257 tokens.',
       tokens=257, num_heads=8, head_dim=16, state_size=32, n_groups=1)
mamba2('mamba2_groups4', 'Mamba-2, four groups, biases in the projections, none in the convolution of width 3, time step '
       'clamped, state 24, not tied.', num_heads=16, head_dim=8, state_size=24, n_groups=4, use_bias=True,
       use_conv_bias=False, conv_kernel=3, time_step_limit=[0.05, 0.6], chunk_size=16, tie_word_embeddings=False,
       cache_differs='time_step_limit is applied by the full forward; the cached decode of transformers 5.23 leaves it out '
       'on a CPU, so the greedy answer is that of full recomputation.')


# ----------------------------------------------------------------------------------- Mamba-2 hybrids (Falcon, Granite)
def falcon_h1(name, what, tokens=70, **config):
    base = {'architectures': ['FalconH1ForCausalLM'], 'model_type': 'falcon_h1', 'num_hidden_layers': 2,
            'hidden_size': 48, 'intermediate_size': 64, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 16,
            'max_position_embeddings': 2048, 'rope_theta': 100000.0, 'rope_scaling': None, 'rms_norm_eps': 1e-5,
            'mamba_d_ssm': 96, 'mamba_n_heads': 6, 'mamba_d_head': 16, 'mamba_n_groups': 1, 'mamba_d_state': 16,
            'mamba_d_conv': 4, 'mamba_expand': 2, 'mamba_chunk_size': 32, 'mamba_conv_bias': True,
            'mamba_proj_bias': False, 'mamba_norm_before_gate': False, 'mamba_rms_norm': False,
            'mamba_use_mlp': True, 'projectors_bias': False, 'attention_bias': False, 'mlp_bias': False,
            'attention_dropout': 0.0, 'num_logits_to_keep': 1, 'tie_word_embeddings': False, 'pad_token_id': 0,
            'embedding_multiplier': 1.7, 'lm_head_multiplier': 0.6, 'key_multiplier': 0.7,
            'attention_in_multiplier': 1.2, 'attention_out_multiplier': 0.9, 'ssm_in_multiplier': 1.3,
            'ssm_out_multiplier': 0.8, 'mlp_multipliers': [0.9, 0.7],
            'ssm_multipliers': [0.8, 0.9, 0.7, 1.3, 0.6]}
    base.update(config)
    case(name, what, base, tokens, keep_f32=F32_PARTS)


falcon_h1('falcon_h1', 'Falcon-H1: attention and Mamba-2 side by side in every layer, all multipliers different, no norm '
          'in the mixer (y * silu(z)).', tokens=257)
falcon_h1('falcon_h1_norm', 'Falcon-H1 with the gated norm after the gate, two groups, biases everywhere.',
          mamba_rms_norm=True, mamba_n_groups=2, mamba_proj_bias=True, projectors_bias=True, attention_bias=True,
          mlp_bias=True, tie_word_embeddings=True)


def granite(name, what, tokens=70, router=None, **config):
    base = {'architectures': ['GraniteMoeHybridForCausalLM'], 'model_type': 'granitemoehybrid',
            'hidden_size': 48, 'num_hidden_layers': 3, 'layer_types': ['mamba', 'attention', 'mamba'], 'intermediate_size': 32,
            'shared_intermediate_size': 64, 'num_attention_heads': 4, 'num_key_value_heads': 2,
            'max_position_embeddings': 2048, 'position_embedding_type': 'nope', 'rope_theta': 10000.0,
            'rope_scaling': None, 'rms_norm_eps': 1e-5, 'attention_bias': False, 'attention_dropout': 0.0,
            'attention_multiplier': 0.2, 'embedding_multiplier': 3.0, 'logits_scaling': 1.5,
            'residual_multiplier': 0.7, 'num_local_experts': 0, 'num_experts_per_tok': 0, 'mamba_n_heads': 6,
            'mamba_d_head': 16, 'mamba_n_groups': 1, 'mamba_d_state': 16, 'mamba_d_conv': 4, 'mamba_expand': 2,
            'mamba_chunk_size': 32, 'mamba_conv_bias': True, 'mamba_proj_bias': False, 'normalization_function':
            'rmsnorm', 'output_router_logits': False, 'router_aux_loss_coef': 0.01, 'tie_word_embeddings': True,
            'pad_token_id': 0}
    base.update(config)
    case(name, what, base, tokens, router=router, keep_f32=F32_PARTS)


granite('granite_hybrid', 'Granite-4 hybrid, dense (shared MLP alone), attention without positions, 257 tokens.', tokens=257)
granite('granite_hybrid_moe', 'Granite-4 hybrid with experts beside the shared MLP and rotary attention.',
        router='router.layer', num_local_experts=4, num_experts_per_tok=2, intermediate_size=16,
        shared_intermediate_size=32, position_embedding_type='rope', num_hidden_layers=2,
        layer_types=['mamba', 'attention'])

# --------------------------------------------------------------------------------- gated delta rule: Qwen3-Next, 3.5
GATED_DELTA = {'num_hidden_layers': 4, 'intermediate_size': 64, 'num_attention_heads': 2, 'num_key_value_heads': 1,
               'head_dim': 32, 'max_position_embeddings': 4096, 'attention_bias': False, 'attention_dropout': 0.0,
               'linear_conv_kernel_dim': 4, 'linear_key_head_dim': 16, 'linear_value_head_dim': 16,
               'linear_num_key_heads': 2, 'linear_num_value_heads': 4, 'full_attention_interval': 4,
               'mlp_only_layers': []}
EXPERTS = {'num_experts': 6, 'num_experts_per_tok': 2, 'moe_intermediate_size': 16,
           'shared_expert_intermediate_size': 24, 'output_router_logits': False, 'router_aux_loss_coef': 0.001}
MROPE = {'mrope_interleaved': True, 'mrope_section': [2, 1, 1], 'rope_theta': 10000000, 'rope_type': 'default',
         'partial_rotary_factor': 0.25}

case('qwen3_next_moe', 'Qwen3-Next: experts with a shared one; layer 1 is dense (mlp_only_layers); value heads 3 times the '
     'key heads, full attention every third layer.',
     {'architectures': ['Qwen3NextForCausalLM'], 'model_type': 'qwen3_next', **GATED_DELTA, **EXPERTS,
      'hidden_size': 48, 'num_hidden_layers': 3, 'full_attention_interval': 3, 'linear_num_value_heads': 6, 'mlp_only_layers': [1],
      'decoder_sparse_step': 1, 'norm_topk_prob': True, 'partial_rotary_factor': 0.25, 'rope_theta': 10000000,
      'rope_scaling': None, 'tie_word_embeddings': True}, router='mlp.gate')


def as_published(dtype_of=torch.bfloat16):
    """Text weights under model.language_model, beside vision and multi-token-prediction tensors a text runtime skips."""
    def change(tensors):
        moved = {('model.language_model.' + k.removeprefix('model.') if k.startswith('model.') else k): v
                 for k, v in tensors.items()}
        moved['model.visual.patch_embed.proj.weight'] = torch.zeros(4, 3, 2, 2, 2, dtype=dtype_of)
        moved['mtp.fc.weight'] = torch.zeros(8, 16, dtype=dtype_of)
        return moved
    return change


def fuse_experts(tensors):
    """experts.gate_up_proj [E, 2I, H] (gate rows first) and experts.down_proj [E, H, I]."""
    layers = sorted({k.split('.experts.')[0] for k in tensors if '.experts.' in k})
    fused = {k: v for k, v in tensors.items() if '.experts.' not in k}
    for layer in layers:
        count = len({k.split('.experts.')[1].split('.')[0] for k in tensors if k.startswith(layer + '.experts.')})
        part = lambda name: [tensors['%s.experts.%d.%s.weight' % (layer, e, name)] for e in range(count)]
        fused[layer + '.experts.gate_up_proj'] = torch.stack([torch.cat(p) for p in zip(part('gate_proj'),
                                                                                        part('up_proj'))])
        fused[layer + '.experts.down_proj'] = torch.stack(part('down_proj'))
    return as_published()(fused)


def qwen3_5(kind, architecture, text):
    """The nested config of the multimodal releases; the text model is what is run."""
    text = {'model_type': kind + '_text', **GATED_DELTA, 'vocab_size': 320, 'hidden_size': 64, 'hidden_act': 'silu',
            'rms_norm_eps': 1e-6, 'use_cache': True, 'rope_parameters': MROPE, 'dtype': 'bfloat16',
            'mamba_ssm_dtype': 'float32', 'attn_output_gate': True, 'eos_token_id': 2, **text}
    return {'architectures': [architecture], 'model_type': kind, 'text_config': text,
            'tie_word_embeddings': text['tie_word_embeddings'], 'image_token_id': 318, 'video_token_id': 319,
            'vision_config': {'model_type': kind + '_vision', 'depth': 1, 'hidden_size': 8, 'num_heads': 2,
                              'intermediate_size': 8, 'out_hidden_size': 64}}


case('qwen3_5_published', 'Qwen3.5 dense as published: nested config, model.language_model.* names, vision and mtp tensors '
     'to skip; as many value as key heads, value dimension 24, 257 tokens.',
     qwen3_5('qwen3_5', 'Qwen3_5ForConditionalGeneration',
             {'tie_word_embeddings': True, 'linear_num_value_heads': 2, 'linear_value_head_dim': 24,
              'hidden_size': 48, 'num_hidden_layers': 3, 'full_attention_interval': 3}),
     tokens=257, keep_f32=F32_PARTS[:1], published=as_published())
case('qwen3_5_moe_published', 'Qwen3.5 with experts as published: nested config, all experts of a layer in one tensor.',
     qwen3_5('qwen3_5_moe', 'Qwen3_5MoeForConditionalGeneration',
             {**EXPERTS, 'hidden_size': 48, 'num_hidden_layers': 2, 'full_attention_interval': 2, 'num_experts': 4,
              'tie_word_embeddings': True}), router='mlp.gate', published=fuse_experts)
case('qwen3_5_moe_text', 'Qwen3.5 with experts, text config alone with its own layer_types, one tensor per expert.',
     {'architectures': ['Qwen3_5MoeForCausalLM'], 'model_type': 'qwen3_5_moe_text', **GATED_DELTA, **EXPERTS,
      'hidden_size': 48, 'num_hidden_layers': 3, 'layer_types': ['linear_attention', 'full_attention',
                                                                 'linear_attention'],
      'rope_parameters': MROPE, 'tie_word_embeddings': False, 'attn_output_gate': True}, router='mlp.gate')

# --------------------------------------------------------------------------- lightning attention and Kimi delta attention
case('minimax_other', 'MiniMax (HF port): 6 heads (not a power of two), head dimension 12, blocks of 16, 3 of 5 '
     'experts, 257 tokens.',
     {'architectures': ['MiniMaxForCausalLM'], 'model_type': 'minimax', 'hidden_size': 48,
      'intermediate_size': 16, 'num_hidden_layers': 3, 'num_attention_heads': 6, 'num_key_value_heads': 3, 'head_dim': 12,
      'max_position_embeddings': 2048, 'rms_norm_eps': 1e-5, 'rope_theta': 10000.0, 'num_local_experts': 5,
      'num_experts_per_tok': 3, 'layer_types': ['linear_attention', 'linear_attention', 'full_attention'],
      'block_size': 16, 'full_attn_alpha_factor': 1.2, 'full_attn_beta_factor': 0.7, 'linear_attn_alpha_factor': 0.9,
      'linear_attn_beta_factor': 1.3, 'mlp_alpha_factor': 0.8, 'mlp_beta_factor': 1.1, 'tie_word_embeddings': True,
      'attention_dropout': 0.0, 'sliding_window': None, 'router_jitter_noise': 0.0}, tokens=257, router='gate')


def kimi_names(tensors):
    """The dense layers are `mlp` in the published files; transformers 5.23 writes every layer as block_sparse_moe."""
    return {re.sub(r'block_sparse_moe\.((?:gate|up|down)_proj)', r'mlp.\1', k): v for k, v in tensors.items()}


def kimi(name, what, tokens=70, **config):
    base = {'architectures': ['KimiLinearForCausalLM'], 'model_type': 'kimi_linear', 'num_hidden_layers': 3,
            'hidden_size': 48, 'intermediate_size': 48, 'moe_intermediate_size': 16, 'num_attention_heads': 2,
            'num_key_value_heads': 2, 'head_dim': 32, 'num_experts': 6, 'num_experts_per_token': 2,
            'num_shared_experts': 1, 'num_expert_group': 1, 'topk_group': 1, 'moe_renormalize': True,
            'moe_router_activation_func': 'sigmoid', 'routed_scaling_factor': 1.7, 'first_k_dense_replace': 1,
            'moe_layer_freq': 1, 'use_grouped_topk': True, 'kv_lora_rank': 24, 'q_lora_rank': None,
            'qk_nope_head_dim': 16, 'qk_rope_head_dim': 8, 'v_head_dim': 12, 'mla_use_nope': True,
            'model_max_length': 2048, 'rope_theta': 10000.0, 'rope_scaling': None, 'rms_norm_eps': 1e-5,
            'num_nextn_predict_layers': 0, 'pad_token_id': 0, 'tie_word_embeddings': False,
            'linear_attn_config': {'head_dim': 16, 'num_heads': 3, 'short_conv_kernel_size': 4,
                                   'kda_layers': [1, 3], 'full_attn_layers': [2]}}
    base.update(config)
    case(name, what, base, tokens, router='mlp.gate', keep_f32=('A_log', 'dt_bias', 'e_score_correction_bias'),
         published=kimi_names)


kimi('kimi_linear', 'Kimi Linear: KDA layers and one MLA layer without positions, dense first layer, then experts chosen '
     'with a correction bias; 1-based layer lists.')
