// MiniMax-Text-01: lightning attention with constant decays, softmax attention in between, experts in every
// layer. Follows transformers' modeling_minimax.py.
#include <cmath>

#include "converter/architectures/attention_layer.h"
#include "converter/architectures/experts.h"
#include "converter/architectures/language_model.h"
#include "converter/architectures/mixers.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Lightning {
  int64_t hidden, heads, head_dim, layers;
  fb::Activation activation;
};

Value lightning_layer(Importer& in, const std::string& p, Value h, const Lightning& m, int64_t layer) {
  GraphBuilder& g = in.graph;
  const int64_t d = m.head_dim, channels = m.heads * d;
  // Rows come head by head, each head's q, k and v in turn.
  const Rows all = in.rows(p + ".qkv_proj.weight", {3 * channels, m.hidden});
  std::vector<Projection> projections;
  for (int i = 0; i < 3; ++i)
    projections.push_back({g.matrix(strf("{}.qkv_proj.{}", p, "qkv"[i]), WeightRole::kMatrix,
                                    grouped_rows(all, m.heads, i * d, d))});
  projections.push_back(in.projection(p + ".output_gate", channels, m.hidden));
  const auto parts = g.linear(p + ".qkv", h, projections);
  fb::GatedLinearAttentionT args;
  args.query_heads = args.key_heads = args.value_heads = static_cast<int>(m.heads);
  args.key_dim = args.value_dim = static_cast<int>(d);
  args.query_map = head_map(m.activation);
  args.key_map = head_map(m.activation);
  args.value_activation = m.activation;
  args.decay = decay(fb::DecayKind::Constant);
  std::vector<float> rates;
  const double factor = 1 - static_cast<double>(layer) / (static_cast<double>(m.layers - 1) + 1e-5) + 1e-5;
  for (int64_t i = 1; i <= m.heads; ++i)
    rates.push_back(static_cast<float>(
        -std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(m.heads)) * factor));
  const Weight rate = in.constant(p + ".decay", {m.heads}, std::move(rates));
  const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), parts[0], parts[1], parts[2],
                                         kAbsent, {rate, kAbsent});
  fb::NormT norm;  // over all heads together
  norm.kind = fb::NormKind::Rms;
  norm.epsilon = 1e-6f;
  norm.gate_activation = fb::Activation::Sigmoid;
  const Value y = g.norm(p + ".norm", o, norm, in.vector(p + ".norm.weight", channels), kAbsent, parts[3]);
  for (const char* buffer : {".slope_rate", ".query_decay", ".key_decay", ".diagonal_decay"})
    in.ignore(p + buffer);
  return g.linear(p + ".output", y, in.projection(p + ".out_proj", m.hidden, channels));
}

// Which layers are lightning attention.
std::vector<bool> lightning_layers(Importer& in, int64_t layers) {
  std::vector<bool> lightning(static_cast<size_t>(layers));
  const char* key = in.has_key("attn_type_list") ? "attn_type_list" : "layer_types";
  for (int64_t i = 0; i < layers; ++i) {
    const auto n = static_cast<size_t>(i);
    if (!in.has_key(key)) {
      lightning[n] = i % 2 == 1;
      continue;
    }
    const std::string type = in.element(key, i);
    lightning[n] = type == "0" || type == "linear_attention";
    if (!lightning[n] && type != "1" && type != "full_attention")
      in.fail(
          strf("config.json: {}[{}] is {}, expected lightning (0, linear_attention) or softmax (1, "
               "full_attention)",
               key, i, type));
  }
  return lightning;
}

}  // namespace

void import_minimax(Importer& in) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t vocabulary = in.integer("vocab_size"), intermediate = in.integer("intermediate_size");
  const int64_t experts = in.integer("num_local_experts", 8), top_k = in.integer("num_experts_per_tok", 2);
  AttentionLayer attention;
  attention.hidden = hidden;
  attention.heads = in.integer("num_attention_heads");
  attention.kv_heads = in.integer("num_key_value_heads", attention.heads);
  attention.head_dim = in.integer("head_dim", attention.heads > 0 ? hidden / attention.heads : 0);
  attention.rope = read_rope(in, attention.head_dim, 1e6);
  attention.window = in.integer("sliding_window", 0);
  const auto epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-5));
  const fb::Activation act = in.activation("hidden_act", "silu");
  const bool tied = in.tied("model.embed_tokens.weight");
  const std::vector<bool> lightning = lightning_layers(in, layers);
  check_experts(in, experts, top_k);
  if (attention.heads < 1 || attention.heads > 65536 || attention.head_dim < 1)
    in.fail(
        strf("config.json: {} heads of {} channels are not possible", attention.heads, attention.head_dim));
  const auto factors = [&](const std::string& which) {
    return std::pair(static_cast<float>(in.number(which + "_alpha_factor", 1)),
                     static_cast<float>(in.number(which + "_beta_factor", 1)));
  };
  const auto full = factors("full_attn"), linear = factors("linear_attn"), mlp = factors("mlp");
  for (const char* key : {"layernorm_full_attention_alpha", "layernorm_linear_attention_alpha",
                          "layernorm_full_attention_beta", "layernorm_linear_attention_beta"})
    in.expect(key, 1, "use transformers' MiniMax checkpoint, MiniMax-Text-01-hf");
  in.expect("shared_intermediate_size", 0, "a shared expert");
  if (!in.errors().empty()) return;
  const Frame frame = begin_language_model(in, "model.embed_tokens.weight", vocabulary, hidden, 1, tied);
  Value x = frame.x;
  const auto wired = [&](const std::string& name, Value normed, Value y, std::pair<float, float> f) {
    return g.pointwise(name, fb::PointwiseKind::ScaledAdd, normed, y, fb::Activation::None, f.first,
                       f.second);
  };
  const Lightning shape{hidden, attention.heads, attention.head_dim, layers, act};
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i), attn = layer + ".self_attn",
                      moe = layer + ".block_sparse_moe";
    // The residual is what the norm gave, not what went into it.
    const Value h = g.rms_norm(layer + ".input_layernorm", x,
                               in.vector(layer + ".input_layernorm.weight", hidden), epsilon);
    const bool fast = lightning[static_cast<size_t>(i)];
    const Value y =
        fast ? lightning_layer(in, attn, h, shape, i) : attention_layer(in, attn, h, attention, kAbsent);
    x = wired(layer + ".attention_residual", h, y, fast ? linear : full);
    const Value h2 = g.rms_norm(layer + ".post_attention_layernorm", x,
                                in.vector(layer + ".post_attention_layernorm.weight", hidden), epsilon);
    Experts e;
    e.experts = experts;
    e.top_k = top_k;
    e.activation = act;
    e.router = in.matrix(moe + ".gate.weight", experts, hidden, WeightRole::kSmall);
    e.gate = expert_rows(in, moe + ".experts", "w1", experts, intermediate, hidden);
    e.up = expert_rows(in, moe + ".experts", "w3", experts, intermediate, hidden);
    e.down = expert_rows(in, moe + ".experts", "w2", experts, hidden, intermediate);
    x = wired(layer + ".mlp_residual", h2, mixture_of_experts(in, moe, e, h2, kAbsent), mlp);
  }
  x = g.rms_norm("norm", x, in.vector("model.norm.weight", hidden), epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied);
}

}  // namespace linnet::convert
