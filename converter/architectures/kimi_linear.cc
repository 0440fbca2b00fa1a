// Kimi Linear: Kimi Delta Attention, latent attention without positions in between, experts chosen by a
// sigmoid router. Follows transformers' modeling_kimi_linear.py.
#include <algorithm>
#include <cmath>

#include "converter/architectures/attention_layer.h"
#include "converter/architectures/experts.h"
#include "converter/architectures/language_model.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr float kLatentEpsilon = 1e-6f;  // the norms inside latent attention keep their class's default

struct Kimi {
  int64_t hidden = 0, layers = 0;
  float epsilon = 1e-5f;
  fb::Activation activation = fb::Activation::Silu;
  // Delta attention.
  int64_t heads = 32, head_dim = 128, kernel = 4;
  // Latent attention.
  int64_t attention_heads = 0, query_rank = 0, rank = 512, nope = 128, shared = 64, value_dim = 128;
  bool bias = false;
  // Experts.
  int64_t experts = 256, top_k = 8, expert_width = 1024, shared_experts = 1;
  bool renormalize = true;
  double scale = 2.446;
  std::vector<bool> full, sparse;  // by layer
};

// Published configs and transformers name some keys differently.
int64_t either(Importer& in, const char* published, const char* other, int64_t absent) {
  return in.has_key(published) ? in.integer(published) : in.integer(other, absent);
}

// Layers that a list names; published lists count from 1.
void mark(Importer& in, const Json& config, const char* key, std::vector<int>& kind, int value) {
  if (!config.contains(key) || !config[key].is_array())
    return in.fail(strf("config.json: linear_attn_config.{} must be a list", key));
  for (const Json& layer : config[key]) {
    const auto n = integer_of(layer, 1, static_cast<int64_t>(kind.size()));
    if (!n)
      in.fail(strf("config.json: linear_attn_config.{} has {}, expected layers 1 to {}", key,
                   json_text(layer), kind.size()));
    else
      kind[static_cast<size_t>(*n - 1)] = value;
  }
}

void read_layers(Importer& in, Kimi& m) {
  const auto layers = static_cast<size_t>(m.layers);
  std::vector<int> kind(layers, -1);  // 0: delta attention, 1: latent attention
  const Json none = Json::object();
  const Json& linear = in.has_key("linear_attn_config") ? in.config()["linear_attn_config"] : none;
  if (!linear.is_object()) return in.fail("config.json: 'linear_attn_config' must be an object");
  const auto size = [&](const char* key, const char* other, int64_t absent) {
    if (!linear.contains(key) || linear[key].is_null()) return in.integer(other, absent);
    if (const auto n = integer_of(linear[key], 1, (1 << 20) - 1)) return *n;
    in.fail(strf("config.json: linear_attn_config.{} is {}, expected a positive integer", key,
                 json_text(linear[key])));
    return int64_t{1};
  };
  m.head_dim = size("head_dim", "linear_head_dim", 128);
  m.heads = size("num_heads", "linear_num_heads", 32);
  m.kernel = size("short_conv_kernel_size", "linear_conv_kernel_dim", 4);
  const bool typed = in.has_key("layer_types");
  if (typed) {
    for (size_t i = 0; i < layers; ++i) {
      const std::string type = in.element("layer_types", static_cast<int64_t>(i));
      if (type == "full_attention" || type == "linear_attention")
        kind[i] = type == "full_attention";
      else
        in.fail(
            strf("config.json: layer_types[{}] is {}, expected linear_attention or full_attention", i, type));
    }
  } else if (linear.contains("full_attn_layers") || linear.contains("kda_layers")) {
    mark(in, linear, "full_attn_layers", kind, 1);
    mark(in, linear, "kda_layers", kind, 0);
    for (size_t i = 0; i < layers; ++i)
      if (kind[i] < 0) in.fail(strf("config.json: linear_attn_config does not say what layer {} is", i + 1));
  } else {
    for (size_t i = 0; i < layers; ++i) kind[i] = i > 0 && i % 4 == 0;
  }
  for (size_t i = 0; i < layers; ++i) m.full.push_back(kind[i] == 1);

  const int64_t dense = in.integer("first_k_dense_replace", 1);
  for (size_t i = 0; i < layers; ++i) {
    bool sparse = static_cast<int64_t>(i) >= dense;
    if (in.has_key("mlp_layer_types")) {
      const std::string type = in.element("mlp_layer_types", static_cast<int64_t>(i));
      sparse = type == "sparse";
      if (!sparse && type != "dense")
        in.fail(strf("config.json: mlp_layer_types[{}] is {}, expected dense or sparse", i, type));
    }
    m.sparse.push_back(sparse);
  }
}

Kimi read_kimi(Importer& in) {
  Kimi m;
  m.hidden = in.integer("hidden_size");
  m.layers = in.layer_count();
  m.epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-5));
  m.activation = in.activation("hidden_act", "silu");
  read_layers(in, m);
  m.attention_heads = in.integer("num_attention_heads");
  in.expect("num_key_value_heads", m.attention_heads,
            "latent attention has one key head for each query head");
  m.query_rank = in.integer("q_lora_rank", 0);
  m.rank = in.integer("kv_lora_rank", 512);
  m.nope = in.integer("qk_nope_head_dim", 128);
  m.shared = in.integer("qk_rope_head_dim", 64);
  m.value_dim = in.integer("v_head_dim", 128);
  m.bias = in.flag("attention_bias", false);
  in.expect("mla_use_nope", true);
  in.expect("moe_layer_freq", 1);
  in.expect("moe_router_activation_func", "sigmoid");
  m.experts = either(in, "num_experts", "num_local_experts", 256);
  m.top_k = either(in, "num_experts_per_token", "num_experts_per_tok", 8);
  m.shared_experts = either(in, "num_shared_experts", "n_shared_experts", 1);
  m.expert_width = in.integer("moe_intermediate_size", 1024);
  m.renormalize =
      in.has_key("moe_renormalize") ? in.flag("moe_renormalize", true) : in.flag("norm_topk_prob", true);
  m.scale = in.number("routed_scaling_factor", 2.446);
  if (std::find(m.sparse.begin(), m.sparse.end(), true) != m.sparse.end())
    check_experts(in, m.experts, m.top_k);
  const int64_t groups = either(in, "num_expert_group", "n_group", 1),
                chosen = in.integer("topk_group", groups);
  if (groups != chosen)
    in.fail(strf("config.json: {} of {} groups of experts are chosen first; Linnet chooses among all experts",
                 chosen, groups));
  if (m.heads <= 0 || m.head_dim <= 0 || m.rank <= 0 || m.nope <= 0 || m.shared <= 0 || m.value_dim <= 0 ||
      m.attention_heads <= 0)
    in.fail("config.json: head counts and head sizes must be positive");
  return m;
}

// Kimi Delta Attention: a log decay for every key channel, a sigmoid output gate of low rank.
Value delta_attention(Importer& in, const std::string& p, Value h, const Kimi& m, Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t channels = m.heads * m.head_dim;
  const auto qkv = g.linear(
      p + ".qkv", h,
      {in.projection(p + ".q_proj", channels, m.hidden), in.projection(p + ".k_proj", channels, m.hidden),
       in.projection(p + ".v_proj", channels, m.hidden)});
  const auto x = short_convolution(
      in, p + ".conv", {{qkv[0], p + ".q_conv1d"}, {qkv[1], p + ".k_conv1d"}, {qkv[2], p + ".v_conv1d"}},
      m.kernel, m.activation);
  const auto small = [&](const char* name, int64_t n, int64_t k) {
    return in.projection(p + name, n, k, false, WeightRole::kSmall);
  };
  const auto low = g.linear(p + ".low_rank", h,
                            {small(".f_a_proj", m.head_dim, m.hidden),
                             small(".g_a_proj", m.head_dim, m.hidden), small(".b_proj", m.heads, m.hidden)});
  const Value f = g.linear(p + ".f", low[0], small(".f_b_proj", channels, m.head_dim));
  const Value gate = g.linear(p + ".g", low[1], small(".g_b_proj", channels, m.head_dim));
  fb::GatedDeltaRuleT args;
  args.key_heads = args.value_heads = static_cast<int>(m.heads);
  args.key_dim = args.value_dim = static_cast<int>(m.head_dim);
  args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(m.head_dim)));
  args.query_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
  args.key_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
  args.beta_activation = fb::Activation::Sigmoid;
  args.decay = decay(fb::DecayKind::Softplus);
  const Weight rate = mapped_vector(in, p + ".A_log", m.heads, [](double a) { return -std::exp(a); });
  const Value o = gated_delta_rule(in, p + ".mixer", std::move(args), x[0], x[1], x[2], low[2], f,
                                   {rate, in.vector(p + ".dt_bias", channels)});
  fb::NormT norm;
  norm.kind = fb::NormKind::Rms;
  norm.epsilon = m.epsilon;
  norm.group = static_cast<int>(m.head_dim);
  norm.gate_activation = fb::Activation::Sigmoid;
  const Value y = g.norm(p + ".o_norm", o, norm, in.vector(p + ".o_norm.weight", m.head_dim), kAbsent, gate);
  return g.linear(p + ".output", y, in.projection(p + ".o_proj", m.hidden, channels), fb::Activation::None,
                  residual);
}

// Latent attention: keys and values from a low-rank latent, and some key channels that all heads share. No
// positions: those channels are not turned.
Value latent_attention(Importer& in, const std::string& p, Value h, const Kimi& m, Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t heads = m.attention_heads, key_dim = m.nope + m.shared;
  const Rows rows = in.rows(p + ".kv_a_proj_with_mqa.weight", {m.rank + m.shared, m.hidden});
  std::vector<Projection> projections = {
      {g.matrix(p + ".kv_a_proj.latent", WeightRole::kMatrix, slice_rows(rows, 0, m.rank))},
      {g.matrix(p + ".kv_a_proj.shared", WeightRole::kMatrix, slice_rows(rows, m.rank, m.shared))}};
  if (m.bias) {
    const Rows bias = in.rows(p + ".kv_a_proj_with_mqa.bias", {m.rank + m.shared, 1});
    projections[0].bias = g.vector(p + ".kv_a_proj.latent_bias", slice_rows(bias, 0, m.rank));
    projections[1].bias = g.vector(p + ".kv_a_proj.shared_bias", slice_rows(bias, m.rank, m.shared));
  }
  projections.push_back(m.query_rank > 0 ? in.projection(p + ".q_a_proj", m.query_rank, m.hidden, m.bias)
                                         : in.projection(p + ".q_proj", heads * key_dim, m.hidden));
  const auto x = g.linear(p + ".in", h, projections);
  const auto norm = [&](const std::string& name, Value v, int64_t n) {
    return g.rms_norm(name, v, in.vector(name + ".weight", n), kLatentEpsilon);
  };
  Value q = x[2];
  if (m.query_rank > 0)
    q = g.linear(p + ".q", norm(p + ".q_a_layernorm", q, m.query_rank),
                 in.projection(p + ".q_b_proj", heads * key_dim, m.query_rank));
  const Value latent = norm(p + ".kv_a_layernorm", x[0], m.rank);
  const Rows both = in.rows(p + ".kv_b_proj.weight", {heads * (m.nope + m.value_dim), m.rank});
  const Weight keys = g.matrix(p + ".kv_b_proj.k", WeightRole::kMatrix, grouped_rows(both, heads, 0, m.nope));
  const Weight values =
      g.matrix(p + ".kv_b_proj.v", WeightRole::kMatrix, grouped_rows(both, heads, m.nope, m.value_dim));
  const auto kv = g.linear(p + ".kv", latent, std::vector<Projection>{{keys}, {values}});
  fb::ConcatHeadsT concat;
  concat.heads = static_cast<int>(heads);
  concat.sizes = {static_cast<int>(m.nope), static_cast<int>(m.shared)};
  const Value k = g.node(p + ".keys", GraphBuilder::args(std::move(concat)), {kv[0], x[1]}, {}, {},
                         {g.like(h, heads * key_dim)})[0];
  fb::SoftmaxAttentionT a;
  a.heads = a.kv_heads = static_cast<int>(heads);
  a.head_dim = static_cast<int>(key_dim);
  a.value_dim = static_cast<int>(m.value_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(key_dim)));
  const Value o = g.attention(p + ".attention", std::move(a), q, k, kv[1]);
  return g.linear(p + ".output", o, in.projection(p + ".o_proj", m.hidden, heads * m.value_dim, m.bias),
                  fb::Activation::None, residual);
}

Value expert_layer(Importer& in, const std::string& p, Value h, const Kimi& m, Value residual) {
  Experts e;
  e.experts = m.experts;
  e.top_k = m.top_k;
  e.hidden = m.hidden;
  e.scores = fb::RouterScores::Sigmoid;
  e.renormalize = m.renormalize;
  e.renormalize_epsilon = 1e-20;
  e.scale = m.scale;
  e.activation = m.activation;
  e.router = in.matrix(p + ".gate.weight", m.experts, m.hidden, WeightRole::kSmall);
  e.selection_bias = in.vector(p + ".gate.e_score_correction_bias", m.experts);
  read_expert_matrices(in, p + ".experts", m.expert_width, e);
  if (m.shared_experts > 0) {
    const int64_t width = m.expert_width * m.shared_experts;
    e.shared_gate = in.matrix(p + ".shared_experts.gate_proj.weight", width, m.hidden);
    e.shared_up = in.matrix(p + ".shared_experts.up_proj.weight", width, m.hidden);
    e.shared_down = in.matrix(p + ".shared_experts.down_proj.weight", m.hidden, width);
  }
  return mixture_of_experts(in, p, e, h, residual);
}

}  // namespace

void import_kimi_linear(Importer& in) {
  GraphBuilder& g = in.graph;
  const Kimi m = read_kimi(in);
  const int64_t vocabulary = in.integer("vocab_size");
  const bool some_dense = std::find(m.sparse.begin(), m.sparse.end(), false) != m.sparse.end();
  const int64_t intermediate = some_dense ? in.integer("intermediate_size") : 0;
  // transformers never ties this family's head, whatever tie_word_embeddings says.
  const bool tied = !in.has("lm_head.weight");
  if (!in.errors().empty()) return;
  // Prediction of several tokens comes as layers after the last.
  for (int64_t i = 0; i < std::min<int64_t>(in.integer("num_nextn_predict_layers", 0), 64); ++i)
    in.skip(strf("model.layers.{}.", m.layers + i), "prediction of several tokens");

  const Frame frame = begin_language_model(in, "model.embed_tokens.weight", vocabulary, m.hidden, 1, tied);
  const auto norm = [&](const std::string& name, Value x) {
    return g.rms_norm(name, x, in.vector(name + ".weight", m.hidden), m.epsilon);
  };
  Value x = frame.x;
  for (int64_t i = 0; i < m.layers; ++i) {
    const auto n = static_cast<size_t>(i);
    const std::string layer = "model.layers." + std::to_string(i);
    const Value h = norm(layer + ".input_layernorm", x);
    x = m.full[n] ? latent_attention(in, layer + ".self_attn", h, m, x)
                  : delta_attention(in, layer + ".self_attn", h, m, x);
    const Value h2 = norm(layer + ".post_attention_layernorm", x);
    // Published as block_sparse_moe; transformers also calls it mlp.
    const std::string moe = layer + (in.has(layer + ".mlp.gate.weight") ? ".mlp" : ".block_sparse_moe");
    x = m.sparse[n] ? expert_layer(in, moe, h2, m, x)
                    : gated_mlp(in, layer + ".mlp", h2, m.hidden, intermediate, m.activation, false, x);
  }
  x = norm("model.norm", x);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, m.hidden, tied);
}

}  // namespace linnet::convert
