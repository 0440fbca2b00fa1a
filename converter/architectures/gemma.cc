// Gemma 2: four (1 + w) norms a layer, softcapped attention and logits, window and full layers in turn. Gemma
// 3: the same with norms of queries and keys, five window layers for each full one, and rotations of their
// own for both. Follows transformers' modeling_gemma2.py and modeling_gemma3.py.
#include <cmath>

#include "converter/architectures/language_model.h"
#include "converter/architectures/rope.h"
#include "converter/image/components.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

namespace {

enum class Gemma { kTwo, kThree };

// Embedding, layers and last norm; tensors under `prefix`. What `begin` and `end` do with the ids and the
// states is the method's.
template <typename Begin, typename End>
void gemma(Importer& in, Gemma version, const std::string& prefix, const Begin& begin, const End& end) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t heads = in.integer("num_attention_heads"), vocabulary = in.integer("vocab_size");
  const int64_t kv_heads = in.integer("num_key_value_heads", heads);
  const int64_t head_dim = in.integer("head_dim", 256), intermediate = in.integer("intermediate_size");
  const int64_t window = in.integer("sliding_window", 4096);
  const auto epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  const fb::Activation act = in.activation(
      in.has_key("hidden_activation") ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh");
  const bool bias = in.flag("attention_bias", false);
  const double scalar = in.number("query_pre_attn_scalar", static_cast<double>(head_dim));
  const bool three = version == Gemma::kThree;
  const fb::RotaryEmbeddingT rope =
      three ? read_rope_of(in, "full_attention", "rope_theta", 1e6, true, head_dim) : read_rope(in, head_dim);
  const fb::RotaryEmbeddingT window_rope =
      three ? read_rope_of(in, "sliding_attention", "rope_local_base_freq", 1e4, false, head_dim) : rope;
  // Every so many layers one sees everything.
  const int64_t pattern =
      in.integer("sliding_window_pattern", in.integer("_sliding_window_pattern", three ? 6 : 2));
  if (pattern < 1) in.fail(strf("config.json: sliding_window_pattern is {}, expected 1 at least", pattern));
  if (in.flag("use_bidirectional_attention", false))
    in.fail(
        "config.json: use_bidirectional_attention is set: this is a model of embeddings, which does not "
        "chat");
  const bool listed = in.has_key("layer_types") && in.config()["layer_types"].is_array();
  if (!in.errors().empty()) return;

  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(hidden)));
  Value x = begin(prefix + "embed_tokens.weight", vocabulary, hidden, scale);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(i);
    const std::string attn = layer + ".self_attn";
    const auto norm = [&](const char* name, Value v) {
      return g.rms_norm(layer + "." + name, v, in.vector(layer + "." + name + ".weight", hidden), epsilon, 1);
    };
    bool slides = (i + 1) % pattern != 0;
    if (listed) {
      const Json& types = in.config()["layer_types"];
      slides = static_cast<size_t>(i) < types.size() &&
               is_text(types[static_cast<size_t>(i)], "sliding_attention");
    }
    const Value h = norm("input_layernorm", x);
    const auto qkv = g.linear(attn + ".qkv", h,
                              {in.projection(attn + ".q_proj", heads * head_dim, hidden, bias),
                               in.projection(attn + ".k_proj", kv_heads * head_dim, hidden, bias),
                               in.projection(attn + ".v_proj", kv_heads * head_dim, hidden, bias)});
    const auto head_norm = [&](const char* name, Value v) {
      if (!three) return v;
      return g.rms_norm(attn + "." + name, v, in.vector(attn + "." + name + ".weight", head_dim), epsilon, 1,
                        static_cast<int>(head_dim));
    };
    const Value q = head_norm("q_norm", qkv[0]), k = head_norm("k_norm", qkv[1]);
    const fb::RotaryEmbeddingT& own = slides ? window_rope : rope;
    const auto turned = g.rotary(attn + ".rotary", own, {q, k});
    fb::SoftmaxAttentionT a;
    a.heads = static_cast<int>(heads);
    a.kv_heads = static_cast<int>(kv_heads);
    a.head_dim = a.value_dim = static_cast<int>(head_dim);
    a.scale = static_cast<float>(1.0 / std::sqrt(scalar));
    a.softcap = static_cast<float>(in.number("attn_logit_softcapping", 0));
    a.window = slides ? static_cast<int>(window) : 0;
    a.rope = std::make_unique<fb::RotaryEmbeddingT>(own);
    const Value o = g.attention(attn + ".attention", std::move(a), turned[0], turned[1], qkv[2]);
    const Value y =
        g.linear(attn + ".output", o, in.projection(attn + ".o_proj", hidden, heads * head_dim, bias));
    x = g.add(layer + ".attention_residual", x, norm("post_attention_layernorm", y));
    const Value m =
        gated_mlp(in, layer + ".mlp", norm("pre_feedforward_layernorm", x), hidden, intermediate, act);
    x = g.add(layer + ".mlp_residual", x, norm("post_feedforward_layernorm", m));
  }
  end(x, prefix + "norm.weight", vocabulary, hidden, epsilon);
}

}  // namespace

namespace {

void import_gemma(Importer& in, Gemma version) {
  const bool tied = in.tied("model.embed_tokens.weight", true);
  Frame frame;
  gemma(
      in, version, "model.",
      [&](const std::string& table, int64_t vocabulary, int64_t hidden, float scale) {
        frame = begin_language_model(in, table, vocabulary, hidden, scale, tied);
        return frame.x;
      },
      [&](Value x, const std::string& norm, int64_t vocabulary, int64_t hidden, float epsilon) {
        x = in.graph.rms_norm("norm", x, in.vector(norm, hidden), epsilon, 1);
        end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied, 1,
                           static_cast<float>(in.number("final_logit_softcapping", 0)));
      });
}

}  // namespace

void import_gemma2(Importer& in) { import_gemma(in, Gemma::kTwo); }
void import_gemma3(Importer& in) { import_gemma(in, Gemma::kThree); }

void import_gemma2_encoder(Importer& in) {
  GraphBuilder& g = in.graph;
  // Saved as the stack alone, or inside of the language model.
  const std::string prefix = in.has("model.embed_tokens.weight") ? "model." : "";
  in.ignore("lm_head.weight");
  gemma(
      in, Gemma::kTwo, prefix,
      [&](const std::string& table, int64_t vocabulary, int64_t hidden, float scale) {
        g.begin_method(names::kEncodeText);
        const Value ids = g.input(names::kInputIds, DType::kI32, {g.dim(names::kTokens)});
        const Weight weight = in.matrix(table, vocabulary, hidden, WeightRole::kEmbedding);
        return g.embedding("embedding", ids, weight, scale);
      },
      [&](Value x, const std::string& norm, int64_t, int64_t hidden, float epsilon) {
        g.output(g.rms_norm("hidden_states", x, in.vector(norm, hidden), epsilon, 1));
      });
}

}  // namespace linnet::convert
