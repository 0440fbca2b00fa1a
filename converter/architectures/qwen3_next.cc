// Qwen3-Next and the text part of Qwen3.5, dense and with experts: Gated DeltaNet layers, gated softmax
// attention in between. Follows transformers' modeling_qwen3_next.py, modeling_qwen3_5.py and
// modeling_qwen3_5_moe.py.
#include <algorithm>
#include <cmath>

#include "converter/architectures/attention_layer.h"
#include "converter/architectures/experts.h"
#include "converter/architectures/language_model.h"
#include "converter/architectures/mixers.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct DeltaNet {
  int64_t hidden = 0, key_heads = 1, value_heads = 1, key_dim = 1, value_dim = 1, kernel = 4;
  float epsilon = 1e-6f;
  fb::Activation activation = fb::Activation::Silu;  // of the convolution
};

DeltaNet read_delta_net(Importer& in, int64_t hidden, float epsilon) {
  DeltaNet m;
  m.hidden = hidden;
  m.epsilon = epsilon;
  m.kernel = in.integer("linear_conv_kernel_dim", 4);
  m.key_heads = in.integer("linear_num_key_heads", 16);
  m.value_heads = in.integer("linear_num_value_heads", 32);
  m.key_dim = in.integer("linear_key_head_dim", 128);
  m.value_dim = in.integer("linear_value_head_dim", 128);
  m.activation = in.activation("hidden_act", "silu");
  if (m.key_heads <= 0 || m.value_heads % m.key_heads != 0 || m.value_heads <= 0 || m.key_dim <= 0 ||
      m.value_dim <= 0)
    in.fail(strf("config.json: {} value heads of {} channels are no multiple of {} key heads of {} channels",
                 m.value_heads, m.value_dim, m.key_heads, m.key_dim));
  return m;
}

// The projections q, k, v, z and b, a, however the checkpoint joins them: Qwen3-Next key head by key head,
// with the value heads that each key head serves, Qwen3.5 one part after another.
struct Parts {
  std::vector<Projection> qkvz, ba;
};
Parts read_parts(Importer& in, const std::string& p, const DeltaNet& m) {
  GraphBuilder& g = in.graph;
  const int64_t keys = m.key_heads * m.key_dim, values = m.value_heads * m.value_dim;
  const int64_t share = m.value_heads / m.key_heads, width = share * m.value_dim;
  Parts parts;
  const auto add = [&](std::vector<Projection>& to, const char* name, WeightRole role, Rows rows) {
    to.push_back({g.matrix(strf("{}.in_proj.{}", p, name), role, std::move(rows))});
  };
  if (in.has(p + ".in_proj_qkvz.weight")) {
    const Rows all = in.rows(p + ".in_proj_qkvz.weight", {2 * (keys + values), m.hidden});
    const int64_t d = m.key_dim;
    add(parts.qkvz, "q", WeightRole::kMatrix, grouped_rows(all, m.key_heads, 0, d));
    add(parts.qkvz, "k", WeightRole::kMatrix, grouped_rows(all, m.key_heads, d, d));
    add(parts.qkvz, "v", WeightRole::kMatrix, grouped_rows(all, m.key_heads, 2 * d, width));
    add(parts.qkvz, "z", WeightRole::kMatrix, grouped_rows(all, m.key_heads, 2 * d + width, width));
  } else {
    const Rows all = in.rows(p + ".in_proj_qkv.weight", {2 * keys + values, m.hidden});
    add(parts.qkvz, "q", WeightRole::kMatrix, slice_rows(all, 0, keys));
    add(parts.qkvz, "k", WeightRole::kMatrix, slice_rows(all, keys, keys));
    add(parts.qkvz, "v", WeightRole::kMatrix, slice_rows(all, 2 * keys, values));
    parts.qkvz.push_back(in.projection(p + ".in_proj_z", values, m.hidden));
  }
  if (in.has(p + ".in_proj_ba.weight")) {
    const Rows all = in.rows(p + ".in_proj_ba.weight", {2 * m.value_heads, m.hidden});
    add(parts.ba, "b", WeightRole::kSmall, grouped_rows(all, m.key_heads, 0, share));
    add(parts.ba, "a", WeightRole::kSmall, grouped_rows(all, m.key_heads, share, share));
  } else {
    for (const char* name : {".in_proj_b", ".in_proj_a"})
      parts.ba.push_back(in.projection(p + name, m.value_heads, m.hidden, false, WeightRole::kSmall));
  }
  return parts;
}

Value delta_net_layer(Importer& in, const std::string& p, Value h, const DeltaNet& m, Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t keys = m.key_heads * m.key_dim, values = m.value_heads * m.value_dim,
                convolved = 2 * keys + values;
  const Parts parts = read_parts(in, p, m);
  const auto x = g.linear(p + ".qkvz", h, parts.qkvz), ba = g.linear(p + ".ba", h, parts.ba);
  const auto qkv = short_convolution(in, p + ".conv",
                                     {{x[0], p + ".conv1d", 0, convolved},
                                      {x[1], p + ".conv1d", keys, convolved},
                                      {x[2], p + ".conv1d", 2 * keys, convolved}},
                                     m.kernel, m.activation);
  fb::GatedDeltaRuleT args;
  args.key_heads = static_cast<int>(m.key_heads);
  args.value_heads = static_cast<int>(m.value_heads);
  args.key_dim = static_cast<int>(m.key_dim);
  args.value_dim = static_cast<int>(m.value_dim);
  args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(m.key_dim)));
  args.query_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
  args.key_map = head_map(fb::Activation::None, fb::HeadNorm::L2, 1e-6f);
  args.beta_activation = fb::Activation::Sigmoid;
  args.decay = decay(fb::DecayKind::Softplus);
  const Weight rate = mapped_vector(in, p + ".A_log", m.value_heads, [](double a) { return -std::exp(a); });
  const Value o = gated_delta_rule(in, p + ".mixer", std::move(args), qkv[0], qkv[1], qkv[2], ba[0], ba[1],
                                   {rate, in.vector(p + ".dt_bias", m.value_heads)});
  fb::NormT norm;
  norm.kind = fb::NormKind::Rms;
  norm.epsilon = m.epsilon;
  norm.group = static_cast<int>(m.value_dim);
  norm.gate_activation = fb::Activation::Silu;
  const Value y = g.norm(p + ".norm", o, norm, in.vector(p + ".norm.weight", m.value_dim), kAbsent, x[3]);
  return g.linear(p + ".out", y, in.projection(p + ".out_proj", m.hidden, values), fb::Activation::None,
                  residual);
}

// Which layers are softmax attention.
std::vector<bool> softmax_layers(Importer& in, int64_t layers) {
  std::vector<bool> softmax(static_cast<size_t>(layers));
  const int64_t interval = in.integer("full_attention_interval", 4);
  if (interval < 1) return in.fail("config.json: 'full_attention_interval' must be 1 or more"), softmax;
  for (int64_t i = 0; i < layers; ++i) {
    const auto n = static_cast<size_t>(i);
    softmax[n] = (i + 1) % interval == 0;
    if (!in.has_key("layer_types")) continue;
    const std::string type = in.element("layer_types", i);
    softmax[n] = type == "full_attention";
    if (!softmax[n] && type != "linear_attention")
      in.fail(
          strf("config.json: layer_types[{}] is {}, expected linear_attention or full_attention", i, type));
  }
  return softmax;
}

struct Moe {
  int64_t experts = 0, top_k = 0, intermediate = 0, shared = 0, step = 1;
  bool renormalize = true;
  std::vector<bool> dense;  // layers with a plain MLP
};

Moe read_moe(Importer& in, int64_t layers, int64_t experts, int64_t top_k) {
  Moe m;
  m.dense.assign(static_cast<size_t>(layers), true);
  m.experts = in.integer("num_experts", experts);
  if (m.experts <= 0) return m;
  m.top_k = in.integer("num_experts_per_tok", top_k);
  check_experts(in, m.experts, m.top_k);
  m.intermediate = in.integer("moe_intermediate_size", 512);
  m.shared = in.integer("shared_expert_intermediate_size", 512);
  m.step = in.integer("decoder_sparse_step", 1);
  m.renormalize = in.flag("norm_topk_prob", true);
  if (m.step < 1) in.fail("config.json: 'decoder_sparse_step' must be 1 or more"), m.step = 1;
  for (int64_t i = 0; i < layers; ++i) m.dense[static_cast<size_t>(i)] = (i + 1) % m.step != 0;
  if (in.has_key("mlp_only_layers"))
    for (const Json& layer : in.config()["mlp_only_layers"]) {
      if (const auto n = integer_of(layer, 0, layers - 1))
        m.dense[static_cast<size_t>(*n)] = true;
      else
        in.fail(
            strf("config.json: mlp_only_layers has {}, expected layers below {}", json_text(layer), layers));
    }
  return m;
}

Value moe_layer(Importer& in, const std::string& p, Value h, const Moe& m, int64_t hidden,
                fb::Activation activation, Value residual) {
  Experts e;
  e.experts = m.experts;
  e.top_k = m.top_k;
  e.hidden = hidden;
  e.renormalize = m.renormalize;
  e.activation = activation;
  e.router = in.matrix(p + ".gate.weight", m.experts, hidden, WeightRole::kSmall);
  read_expert_matrices(in, p + ".experts", m.intermediate, e);
  if (m.shared > 0) {
    const std::string shared = p + ".shared_expert";
    e.shared_gate = in.matrix(shared + ".gate_proj.weight", m.shared, hidden);
    e.shared_up = in.matrix(shared + ".up_proj.weight", m.shared, hidden);
    e.shared_down = in.matrix(shared + ".down_proj.weight", hidden, m.shared);
    e.shared_factor = in.vector(p + ".shared_expert_gate.weight", hidden);
  }
  return mixture_of_experts(in, p, e, h, residual);
}

void import_hybrid(Importer& in, int64_t experts, int64_t top_k) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t vocabulary = in.integer("vocab_size");
  const auto epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  AttentionLayer attention;
  attention.hidden = hidden;
  attention.heads = in.integer("num_attention_heads");
  attention.kv_heads = in.integer("num_key_value_heads", attention.heads);
  attention.head_dim = in.integer("head_dim", 256);
  attention.qkv_bias = attention.output_bias = in.flag("attention_bias", false);
  attention.rope = read_rope(in, attention.head_dim, 10000, 0.25);
  attention.qk_norm = attention.gated = true;
  attention.epsilon = epsilon;
  attention.norm_offset = 1;
  in.expect("attn_output_gate", true);
  in.expect("use_sliding_window", false);
  const DeltaNet delta_net = read_delta_net(in, hidden, epsilon);
  const std::vector<bool> softmax = softmax_layers(in, layers);
  const Moe moe = read_moe(in, layers, experts, top_k);
  const bool some_dense = std::find(moe.dense.begin(), moe.dense.end(), true) != moe.dense.end();
  const int64_t intermediate = some_dense ? in.integer("intermediate_size") : 0;
  const fb::Activation act = in.activation("hidden_act", "silu");
  // Multimodal releases keep the text part apart.
  const std::string model =
      in.has("model.language_model.embed_tokens.weight") ? "model.language_model" : "model";
  const bool tied = in.tied(model + ".embed_tokens.weight");
  in.skip("model.visual.", "the vision encoder");
  in.skip("mtp.", "prediction of several tokens");
  if (!in.errors().empty()) return;

  const Frame frame = begin_language_model(in, model + ".embed_tokens.weight", vocabulary, hidden, 1, tied);
  const auto norm = [&](const std::string& name, Value x) {
    return g.rms_norm(name, x, in.vector(name + ".weight", hidden), epsilon, 1);
  };
  Value x = frame.x;
  for (int64_t i = 0; i < layers; ++i) {
    const auto n = static_cast<size_t>(i);
    const std::string layer = model + ".layers." + std::to_string(i);
    const Value h = norm(layer + ".input_layernorm", x);
    x = softmax[n] ? attention_layer(in, layer + ".self_attn", h, attention, x)
                   : delta_net_layer(in, layer + ".linear_attn", h, delta_net, x);
    const Value h2 = norm(layer + ".post_attention_layernorm", x);
    x = moe.dense[n] ? gated_mlp(in, layer + ".mlp", h2, hidden, intermediate, act, false, x)
                     : moe_layer(in, layer + ".mlp", h2, moe, hidden, act, x);
  }
  x = norm(model + ".norm", x);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied);
}

}  // namespace

void import_qwen3_next(Importer& in) { import_hybrid(in, 512, 10); }
void import_qwen3_5(Importer& in) {
  in.enter("text_config");
  import_hybrid(in, 0, 0);
}
void import_qwen3_5_moe(Importer& in) {
  in.enter("text_config");
  in.expect("norm_topk_prob", true);
  import_hybrid(in, 256, 8);
}

}  // namespace linnet::convert
