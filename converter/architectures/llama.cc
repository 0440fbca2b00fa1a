// Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen2.5 and dense Qwen3: one wiring, a few switches.
// Follows transformers' modeling_llama.py, modeling_mistral.py, modeling_qwen2.py and modeling_qwen3.py.
#include <cmath>

#include "converter/architectures/language_model.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Switches {
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;
  std::vector<int64_t> windows;  // per layer; 0: full attention
};

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

void import_decoder(Importer& in, const Switches& switches) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t heads = in.integer("num_attention_heads"), vocabulary = in.integer("vocab_size");
  const int64_t kv_heads = in.integer("num_key_value_heads", heads);
  const int64_t head_dim = in.integer("head_dim", heads > 0 ? hidden / heads : 0);
  const int64_t intermediate = in.integer("intermediate_size");
  const auto epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  const fb::Activation act = in.activation("hidden_act", "silu");
  const bool tied = in.flag("tie_word_embeddings", false) || !in.has("lm_head.weight");
  const fb::RotaryEmbeddingT rope = read_rope(in, head_dim);
  in.expect("pretraining_tp", 1);
  if (!in.errors().empty()) return;

  const Frame frame = begin_language_model(in, "model.embed_tokens.weight", vocabulary, hidden, 1, tied);
  Value x = frame.x;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    const std::string attn = layer + ".self_attn";
    const Value h =
        g.rms_norm(layer + ".input_norm", x, in.vector(layer + ".input_layernorm.weight", hidden), epsilon);
    const auto qkv =
        g.linear(attn + ".qkv", h,
                 {in.projection(attn + ".q_proj", heads * head_dim, hidden, switches.qkv_bias),
                  in.projection(attn + ".k_proj", kv_heads * head_dim, hidden, switches.qkv_bias),
                  in.projection(attn + ".v_proj", kv_heads * head_dim, hidden, switches.qkv_bias)});
    Value q = qkv[0], k = qkv[1];
    if (switches.qk_norm) {
      const int group = static_cast<int>(head_dim);
      q = g.rms_norm(attn + ".q_norm", q, in.vector(attn + ".q_norm.weight", head_dim), epsilon, 0, group);
      k = g.rms_norm(attn + ".k_norm", k, in.vector(attn + ".k_norm.weight", head_dim), epsilon, 0, group);
    }
    const auto turned = g.rotary(attn + ".rotary", rope, {q, k});
    fb::SoftmaxAttentionT a;
    a.heads = static_cast<int>(heads);
    a.kv_heads = static_cast<int>(kv_heads);
    a.head_dim = a.value_dim = static_cast<int>(head_dim);
    a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
    a.window = static_cast<int>(switches.windows[static_cast<size_t>(i)]);
    a.rope = std::make_unique<fb::RotaryEmbeddingT>(rope);
    const Value o = g.attention(attn + ".attention", std::move(a), turned[0], turned[1], qkv[2]);
    const Projection out = in.projection(attn + ".o_proj", hidden, heads * head_dim, switches.output_bias);
    x = g.linear(attn + ".output", o, out, fb::Activation::None, x);
    const Value m = g.rms_norm(layer + ".mlp_norm", x,
                               in.vector(layer + ".post_attention_layernorm.weight", hidden), epsilon);
    x = gated_mlp(in, layer + ".mlp", m, hidden, intermediate, act, switches.mlp_bias, x);
    in.ignore(attn + ".rotary_emb.inv_freq");  // a buffer that old checkpoints carry
  }
  x = g.rms_norm("norm", x, in.vector("model.norm.weight", hidden), epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied);
}

}  // namespace

void import_llama(Importer& in) {
  Switches s;
  s.qkv_bias = s.output_bias = in.flag("attention_bias", false);
  s.mlp_bias = in.flag("mlp_bias", false);
  s.windows = read_windows(in, in.layer_count(), 0, 0);
  import_decoder(in, s);
}

void import_mistral(Importer& in) {
  Switches s;
  s.windows = read_windows(in, in.layer_count(), in.integer("sliding_window", 0), 0);
  import_decoder(in, s);
}

void import_qwen2(Importer& in) {
  Switches s;
  s.qkv_bias = true;
  const bool slides = in.flag("use_sliding_window", false);
  const int64_t layers = in.layer_count();
  s.windows = read_windows(in, layers, slides ? in.integer("sliding_window", 0) : 0,
                           in.integer("max_window_layers", layers));
  import_decoder(in, s);
}

void import_qwen3(Importer& in) {
  Switches s;
  s.qkv_bias = s.output_bias = in.flag("attention_bias", false);
  s.qk_norm = true;
  const bool slides = in.flag("use_sliding_window", false);
  const int64_t layers = in.layer_count();
  s.windows = read_windows(in, layers, slides ? in.integer("sliding_window", 0) : 0,
                           in.integer("max_window_layers", layers));
  import_decoder(in, s);
}

}  // namespace linnet::convert
