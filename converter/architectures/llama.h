// Llama's wiring around any token mixer: pre-norm blocks of projections, mixer, output projection and gated
// MLP under Llama's tensor names.
#pragma once

#include <functional>

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct LlamaShape {
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0, intermediate = 0;
  float epsilon = 1e-6f;
  fb::Activation activation = fb::Activation::Silu;
  bool tied = false, qkv_bias = false, output_bias = false, mlp_bias = false;
  fb::RotaryEmbeddingT rope;
};

// Common keys of the config; biases are the family's to decide.
LlamaShape read_llama(Importer& in);

struct LlamaLayer {
  const std::string& name;  // "model.layers.3.self_attn"
  int64_t index;
  Value h;        // the normed input
  Value q, k, v;  // no rope yet
};
// Returns [tokens, heads * head_dim], which the output projection reads.
using LlamaMixer = std::function<Value(const LlamaLayer&)>;
void build_llama(Importer& in, const LlamaShape& shape, const LlamaMixer& mixer);

// Rope and causal softmax attention; window 0: all keys.
Value llama_attention(Importer& in, const LlamaShape& shape, const std::string& name, Value q, Value k,
                      Value v, int64_t window);

}  // namespace linnet::convert
