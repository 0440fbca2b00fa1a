// Falcon-H1 (Mamba-2 and attention side by side in every layer) and Granite 4 hybrids (one or the other, with
// a mixture of experts). Follows transformers' modeling_falcon_h1.py and modeling_granitemoehybrid.py.
#include <algorithm>
#include <cmath>

#include "converter/architectures/attention_layer.h"
#include "converter/architectures/experts.h"
#include "converter/architectures/language_model.h"
#include "converter/architectures/mamba2.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

Mamba2 read_hybrid_mamba(Importer& in, int64_t hidden) {
  Mamba2 m;
  m.hidden = hidden;
  m.inner = static_cast<int64_t>(in.number("mamba_expand", 2) * static_cast<double>(hidden));
  if (in.has_key("mamba_d_ssm")) m.inner = in.integer("mamba_d_ssm");
  m.heads = in.integer("mamba_n_heads", 128);
  m.head_dim = in.has_key("mamba_d_head") && in.config()["mamba_d_head"].is_string()
                   ? m.inner / std::max<int64_t>(m.heads, 1)
                   : in.integer("mamba_d_head", 64);
  m.groups = in.integer("mamba_n_groups", 1);
  m.state = in.integer("mamba_d_state", 256);
  m.kernel = in.integer("mamba_d_conv", 4);
  m.epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-5));
  m.bias = in.flag("mamba_proj_bias", false);
  m.convolution_bias = in.flag("mamba_conv_bias", true);
  m.activation = in.activation("hidden_act", "silu");
  finish_mamba2(in, m);
  return m;
}

AttentionLayer read_attention(Importer& in, int64_t hidden) {
  AttentionLayer a;
  a.hidden = hidden;
  a.heads = in.integer("num_attention_heads");
  a.kv_heads = in.integer("num_key_value_heads", a.heads);
  a.head_dim = in.integer("head_dim", a.heads > 0 ? hidden / a.heads : 0);
  a.qkv_bias = a.output_bias = in.flag("attention_bias", false);
  return a;
}

// `count` numbers under `key`, 1 where it is absent.
std::vector<double> multipliers(Importer& in, const std::string& key, size_t count) {
  std::vector<double> result(count, 1.0);
  if (!in.has_key(key)) return result;
  const Json& list = in.config()[key];
  bool fits = list.is_array() && list.size() == count;
  for (size_t i = 0; fits && i < count; ++i) {
    const auto number = number_of(list[i]);
    if ((fits = number.has_value())) result[i] = *number;
  }
  if (!fits) in.fail(strf("config.json: '{}' is {}, expected {} numbers", key, json_text(list), count));
  return result;
}

Value scaled(GraphBuilder& g, const std::string& name, Value x, double factor) {
  if (factor == 1) return x;
  return g.pointwise(name, fb::PointwiseKind::Scale, x, kAbsent, fb::Activation::None,
                     static_cast<float>(factor), 0);
}
// x + factor * y
Value add_scaled(GraphBuilder& g, const std::string& name, Value x, Value y, double factor) {
  if (factor == 1) return g.add(name, x, y);
  return g.pointwise(name, fb::PointwiseKind::ScaledAdd, x, y, fb::Activation::None, 1,
                     static_cast<float>(factor));
}

}  // namespace

void import_falcon_h1(Importer& in) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t vocabulary = in.integer("vocab_size"), intermediate = in.integer("intermediate_size");
  Mamba2 mamba = read_hybrid_mamba(in, hidden);
  mamba.output_bias = in.flag("projectors_bias", false);
  mamba.norm = in.flag("mamba_rms_norm", false);
  mamba.norm_before_gate = in.flag("mamba_norm_before_gate", true);
  const auto ssm = multipliers(in, "ssm_multipliers", 5), mlp = multipliers(in, "mlp_multipliers", 2);
  for (size_t i = 0; i < 5; ++i) mamba.multipliers[i] = ssm[i];
  AttentionLayer attention = read_attention(in, hidden);
  attention.rope = read_rope(in, attention.head_dim);
  // k times a factor: the same as scores times it.
  attention.scale = in.number("key_multiplier", 1) / std::sqrt(static_cast<double>(attention.head_dim));
  const double attention_in = in.number("attention_in_multiplier", 1),
               attention_out = in.number("attention_out_multiplier", 1);
  const double ssm_in = in.number("ssm_in_multiplier", 1), ssm_out = in.number("ssm_out_multiplier", 1);
  const fb::Activation act = in.activation("hidden_act", "silu");
  const bool mlp_bias = in.flag("mlp_bias", false);
  const bool tied = in.tied("model.embed_tokens.weight");
  if (!in.errors().empty()) return;
  const Frame frame = begin_language_model(in, "model.embed_tokens.weight", vocabulary, hidden,
                                           static_cast<float>(in.number("embedding_multiplier", 1)), tied);
  Value x = frame.x;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i), ff = layer + ".feed_forward";
    const Value h = g.rms_norm(layer + ".input_layernorm", x,
                               in.vector(layer + ".input_layernorm.weight", hidden), mamba.epsilon);
    const Value m =
        mamba2_mixer(in, layer + ".mamba", scaled(g, layer + ".mamba.scaled", h, ssm_in), mamba, kAbsent);
    const Value a =
        attention_layer(in, layer + ".self_attn", scaled(g, layer + ".self_attn.scaled", h, attention_in),
                        attention, kAbsent);
    x = add_scaled(g, layer + ".mamba_residual", x, m, ssm_out);
    x = add_scaled(g, layer + ".attention_residual", x, a, attention_out);
    const Value h2 = g.rms_norm(layer + ".pre_ff_layernorm", x,
                                in.vector(layer + ".pre_ff_layernorm.weight", hidden), mamba.epsilon);
    const auto parts = g.linear(ff + ".gate_up", h2,
                                {in.projection(ff + ".gate_proj", intermediate, hidden, mlp_bias),
                                 in.projection(ff + ".up_proj", intermediate, hidden, mlp_bias)});
    const Value gate = scaled(g, ff + ".scaled_gate", parts[0], mlp[0]);
    const Value inner = g.pointwise(ff + ".gated", fb::PointwiseKind::ActivateMultiply, gate, parts[1], act);
    const Value down =
        g.linear(ff + ".down", inner, in.projection(ff + ".down_proj", hidden, intermediate, mlp_bias));
    x = add_scaled(g, layer + ".mlp_residual", x, down, mlp[1]);
  }
  x = g.rms_norm("norm", x, in.vector("model.final_layernorm.weight", hidden), mamba.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied,
                     static_cast<float>(in.number("lm_head_multiplier", 1)));
}

void import_granite_hybrid(Importer& in) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = in.integer("hidden_size"), layers = in.layer_count();
  const int64_t vocabulary = in.integer("vocab_size"), shared = in.integer("shared_intermediate_size", 1024);
  const int64_t experts = in.integer("num_local_experts", 0), top_k = in.integer("num_experts_per_tok", 0);
  const int64_t intermediate = in.integer("intermediate_size");
  AttentionLayer attention = read_attention(in, hidden);
  attention.scale = in.number("attention_multiplier", 1);
  const std::string positions = in.text("position_embedding_type", "nope");
  if (positions == "rope")
    attention.rope = read_rope(in, attention.head_dim);
  else if (positions != "nope")
    in.fail(strf("config.json: 'position_embedding_type' is '{}'; Linnet has rope and nope", positions));
  in.expect("normalization_function", "rmsnorm");
  const double residual = in.number("residual_multiplier", 1);
  const fb::Activation act = in.activation("hidden_act", "silu");
  const bool tied = in.tied("model.embed_tokens.weight");
  if (experts > 0) check_experts(in, experts, top_k);
  const char* key = in.has_key("layer_types") ? "layer_types" : "layers_block_type";
  std::vector<bool> is_attention(static_cast<size_t>(layers), false);
  if (in.has_key(key)) {
    for (int64_t i = 0; i < layers; ++i) {
      const std::string type = in.element(key, i);
      is_attention[static_cast<size_t>(i)] = type == "attention" || type == "full_attention";
      if (!is_attention[static_cast<size_t>(i)] && type != "mamba" && type != "linear_attention")
        in.fail(strf("config.json: {}[{}] is {}, expected mamba or attention", key, i, type));
    }
  }
  Mamba2 mamba;
  mamba.epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-5));
  if (std::find(is_attention.begin(), is_attention.end(), false) != is_attention.end()) {
    mamba = read_hybrid_mamba(in, hidden);
    mamba.output_bias = mamba.bias;
  }
  if (!in.errors().empty()) return;
  const Frame frame = begin_language_model(in, "model.embed_tokens.weight", vocabulary, hidden,
                                           static_cast<float>(in.number("embedding_multiplier", 1)), tied);
  Value x = frame.x;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i), moe = layer + ".block_sparse_moe",
                      mlp = layer + ".shared_mlp";
    const Value h = g.rms_norm(layer + ".input_layernorm", x,
                               in.vector(layer + ".input_layernorm.weight", hidden), mamba.epsilon);
    const Value y = is_attention[static_cast<size_t>(i)]
                        ? attention_layer(in, layer + ".self_attn", h, attention, kAbsent)
                        : mamba2_mixer(in, layer + ".mamba", h, mamba, kAbsent);
    x = add_scaled(g, layer + ".residual", x, y, residual);
    const Value h2 = g.rms_norm(layer + ".post_attention_layernorm", x,
                                in.vector(layer + ".post_attention_layernorm.weight", hidden), mamba.epsilon);
    const Rows both = in.rows(mlp + ".input_linear.weight", {2 * shared, hidden});
    const Weight gate = g.matrix(mlp + ".gate", WeightRole::kMatrix, slice_rows(both, 0, shared));
    const Weight up = g.matrix(mlp + ".up", WeightRole::kMatrix, slice_rows(both, shared, shared));
    const Projection down = in.projection(mlp + ".output_linear", hidden, shared);
    Value out;
    if (experts > 0) {
      const Rows inputs = stacked_rows(in, moe + ".input_linear.weight", experts, 2 * intermediate, hidden);
      Experts e;
      e.experts = experts;
      e.top_k = top_k;
      e.activation = act;
      e.router = in.matrix(moe + ".router.layer.weight", experts, hidden, WeightRole::kSmall);
      e.gate = grouped_rows(inputs, experts, 0, intermediate);
      e.up = grouped_rows(inputs, experts, intermediate, intermediate);
      e.down = stacked_rows(in, moe + ".output_linear.weight", experts, hidden, intermediate);
      e.shared_gate = gate;
      e.shared_up = up;
      e.shared_down = down.weight;
      out = mixture_of_experts(in, moe, e, h2, kAbsent);
    } else {
      out = g.linear(mlp + ".down", g.gated_linear(mlp + ".gate_up", h2, {gate}, {up}, act), down);
    }
    x = add_scaled(g, layer + ".mlp_residual", x, out, residual);
  }
  x = g.rms_norm("norm", x, in.vector("model.norm.weight", hidden), mamba.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, hidden, tied,
                     static_cast<float>(1.0 / in.number("logits_scaling", 1)));
}

}  // namespace linnet::convert
