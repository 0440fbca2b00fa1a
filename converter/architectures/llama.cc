// Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen2.5 and dense Qwen3: one wiring, a few switches.
// Follows transformers' modeling_llama.py, modeling_mistral.py, modeling_qwen2.py and modeling_qwen3.py.
#include <cmath>

#include "converter/architectures/language_model.h"
#include "converter/architectures/llama.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Per layer from layer_types; else `all` layers from `first` on slide.
std::vector<int64_t> read_windows(Importer& in, int64_t layers, int64_t window, int64_t first) {
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  const bool listed = in.has_key("layer_types") && in.config()["layer_types"].is_array();
  for (int64_t i = 0; i < layers; ++i) {
    bool slides = window > 0 && i >= first;
    if (listed) {
      const std::string type = in.element("layer_types", i);
      slides = type == "sliding_attention";
      if (!slides && type != "full_attention")
        in.fail(strf("config.json: layer_types[{}] is {}, expected full_attention or sliding_attention", i,
                     type));
      if (slides && window <= 0)
        in.fail("config.json: layer_types has sliding_attention but there is no sliding_window");
    }
    if (slides) windows[static_cast<size_t>(i)] = window;
  }
  return windows;
}

void import_decoder(Importer& in, const LlamaShape& s, const std::vector<int64_t>& windows,
                    bool qk_norm = false) {
  GraphBuilder& g = in.graph;
  if (!in.errors().empty()) return;
  build_llama(in, s, [&](const LlamaLayer& l) {
    Value q = l.q, k = l.k;
    if (qk_norm) {
      const int group = static_cast<int>(s.head_dim);
      q = g.rms_norm(l.name + ".q_norm", q, in.vector(l.name + ".q_norm.weight", s.head_dim), s.epsilon, 0,
                     group);
      k = g.rms_norm(l.name + ".k_norm", k, in.vector(l.name + ".k_norm.weight", s.head_dim), s.epsilon, 0,
                     group);
    }
    return llama_attention(in, s, l.name, q, k, l.v, windows[static_cast<size_t>(l.index)]);
  });
}

}  // namespace

LlamaShape read_llama(Importer& in) {
  LlamaShape s;
  s.hidden = in.integer("hidden_size");
  s.layers = in.layer_count();
  s.heads = in.integer("num_attention_heads");
  s.vocabulary = in.integer("vocab_size");
  s.kv_heads = in.integer("num_key_value_heads", s.heads);
  s.head_dim = in.integer("head_dim", s.heads > 0 ? s.hidden / s.heads : 0);
  for (const auto& [key, value] : {std::pair<const char*, int64_t>{"num_attention_heads", s.heads},
                                   {"num_key_value_heads", s.kv_heads},
                                   {"head_dim", s.head_dim}})
    if (value < 1) in.fail(strf("config.json: '{}' is {}, expected a positive integer", key, value));
  s.intermediate = in.integer("intermediate_size");
  s.epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  s.activation = in.activation("hidden_act", "silu");
  s.tied = in.tied("model.embed_tokens.weight");
  s.rope = read_rope(in, s.head_dim);
  in.expect("pretraining_tp", 1);
  return s;
}

void build_llama(Importer& in, const LlamaShape& s, const LlamaMixer& mixer) {
  GraphBuilder& g = in.graph;
  const Frame frame =
      begin_language_model(in, "model.embed_tokens.weight", s.vocabulary, s.hidden, 1, s.tied);
  Value x = frame.x;
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    const std::string attn = layer + ".self_attn";
    const Value h = g.rms_norm(layer + ".input_norm", x,
                               in.vector(layer + ".input_layernorm.weight", s.hidden), s.epsilon);
    const auto qkv =
        g.linear(attn + ".qkv", h,
                 {in.projection(attn + ".q_proj", s.heads * s.head_dim, s.hidden, s.qkv_bias),
                  in.projection(attn + ".k_proj", s.kv_heads * s.head_dim, s.hidden, s.qkv_bias),
                  in.projection(attn + ".v_proj", s.kv_heads * s.head_dim, s.hidden, s.qkv_bias)});
    const Value o = mixer({attn, i, h, qkv[0], qkv[1], qkv[2]});
    const Projection out = in.projection(attn + ".o_proj", s.hidden, s.heads * s.head_dim, s.output_bias);
    x = g.linear(attn + ".output", o, out, fb::Activation::None, x);
    const Value m = g.rms_norm(layer + ".mlp_norm", x,
                               in.vector(layer + ".post_attention_layernorm.weight", s.hidden), s.epsilon);
    x = gated_mlp(in, layer + ".mlp", m, s.hidden, s.intermediate, s.activation, s.mlp_bias, x);
    in.ignore(attn + ".rotary_emb.inv_freq");  // a buffer that old checkpoints carry
  }
  x = g.rms_norm("norm", x, in.vector("model.norm.weight", s.hidden), s.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", s.vocabulary, s.hidden, s.tied);
}

Value llama_attention(Importer& in, const LlamaShape& s, const std::string& name, Value q, Value k, Value v,
                      int64_t window) {
  const auto turned = in.graph.rotary(name + ".rotary", s.rope, {q, k});
  fb::SoftmaxAttentionT a;
  a.heads = static_cast<int>(s.heads);
  a.kv_heads = static_cast<int>(s.kv_heads);
  a.head_dim = a.value_dim = static_cast<int>(s.head_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  a.window = static_cast<int>(window);
  a.rope = std::make_unique<fb::RotaryEmbeddingT>(s.rope);
  return in.graph.attention(name + ".attention", std::move(a), turned[0], turned[1], v);
}

void import_llama(Importer& in) {
  LlamaShape s = read_llama(in);
  s.qkv_bias = s.output_bias = in.flag("attention_bias", false);
  s.mlp_bias = in.flag("mlp_bias", false);
  import_decoder(in, s, read_windows(in, s.layers, 0, 0));
}

void import_mistral(Importer& in) {
  const LlamaShape s = read_llama(in);
  import_decoder(in, s, read_windows(in, s.layers, in.integer("sliding_window", 0), 0));
}

void import_qwen2(Importer& in) {
  LlamaShape s = read_llama(in);
  s.qkv_bias = true;
  const bool slides = in.flag("use_sliding_window", false);
  import_decoder(in, s,
                 read_windows(in, s.layers, slides ? in.integer("sliding_window", 0) : 0,
                              in.integer("max_window_layers", s.layers)));
}

void import_qwen3(Importer& in) {
  LlamaShape s = read_llama(in);
  s.qkv_bias = s.output_bias = in.flag("attention_bias", false);
  const bool slides = in.flag("use_sliding_window", false);
  import_decoder(in, s,
                 read_windows(in, s.layers, slides ? in.integer("sliding_window", 0) : 0,
                              in.integer("max_window_layers", s.layers)),
                 true);
}

}  // namespace linnet::convert
