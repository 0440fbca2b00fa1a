#include "converter/architectures/fla.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "converter/architectures/mixers.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Plain softmax attention in some layers.
struct HybridAttention {
  int64_t heads = 0, kv_heads = 0, window = 0;
  bool bias = false;
  double theta = 10000;
};

// One specification of config `attn`; the layers it names get it.
void read_specification(Importer& in, const FlaModel& model, const Json& attn,
                        std::vector<std::optional<HybridAttention>>& layers) {
  if (!attn.is_object())
    return in.fail(
        strf("config.json: 'attn' has {}, expected an object or a list of objects", json_text(attn)));
  const auto refuse = [&](const std::string& key, const char* wanted) {
    in.fail(strf("config.json: attn.{} is {}, expected {}", key, json_text(attn[key]), wanted));
  };
  const auto given = [&](const char* key) { return attn.contains(key) && !attn[key].is_null(); };
  const auto integer = [&](const char* key, int64_t absent) {
    if (!given(key)) return absent;
    if (const auto n = integer_of(attn[key], 1, (1 << 30) - 1)) return *n;
    refuse(key, "a positive integer");
    return int64_t{1};
  };
  for (const auto& [key, value] : attn.items()) {
    const bool known = key == "layers" || key == "num_heads" || key == "num_kv_heads" ||
                       key == "window_size" || key == "qkv_bias" || key == "rope_theta";
    const bool off = value.is_null() || value == false;
    if (!known && !off) refuse(key, "null: Linnet does not know this key");
  }
  HybridAttention a;
  a.heads = integer("num_heads", 0);
  a.kv_heads = integer("num_kv_heads", a.heads);
  a.window = integer("window_size", 0);
  if (given("qkv_bias")) {
    if (attn["qkv_bias"].is_boolean())
      a.bias = attn["qkv_bias"].get<bool>();
    else
      refuse("qkv_bias", "true or false");
  }
  if (given("rope_theta")) {
    if (const auto theta = number_of(attn["rope_theta"]); theta && *theta > 0)
      a.theta = *theta;
    else
      refuse("rope_theta", "a positive number");
  }
  if (a.heads == 0 || model.hidden % a.heads != 0 || a.heads % a.kv_heads != 0 ||
      (model.hidden / a.heads) % 2 != 0)
    in.fail(strf("config.json: attn has {} heads and {} key heads, which do not divide a hidden size of {}",
                 a.heads, a.kv_heads, model.hidden));
  if (!given("layers") || !attn["layers"].is_array())
    return in.fail("config.json: attn.layers must be a list");
  for (const Json& layer : attn["layers"]) {
    const auto n = integer_of(layer, 0, model.layers - 1);
    if (!n)
      in.fail(
          strf("config.json: attn.layers has {}, expected layers below {}", json_text(layer), model.layers));
    else if (auto& slot = layers[static_cast<size_t>(*n)]; slot)
      in.fail(strf("config.json: attn.layers names layer {} twice", json_text(layer)));
    else
      slot = a;
  }
}

// Config `attn`: one specification or a list of them (sliding windows in some layers, all tokens in others).
std::vector<std::optional<HybridAttention>> read_hybrid(Importer& in, const FlaModel& model) {
  std::vector<std::optional<HybridAttention>> layers(static_cast<size_t>(std::max<int64_t>(model.layers, 0)));
  if (!in.has_key("attn")) return layers;
  const Json& attn = in.config()["attn"];
  if (!attn.is_array())
    read_specification(in, model, attn, layers);
  else
    for (const Json& one : attn) read_specification(in, model, one, layers);
  return layers;
}

Value softmax_layer(Importer& in, const HybridAttention& attn, const std::string& p, Value h, Value residual,
                    int64_t hidden) {
  GraphBuilder& g = in.graph;
  const int64_t head_dim = hidden / attn.heads;
  const auto qkv = g.linear(p + ".qkv", h,
                            {in.projection(p + ".q_proj", hidden, hidden, attn.bias),
                             in.projection(p + ".k_proj", attn.kv_heads * head_dim, hidden, attn.bias),
                             in.projection(p + ".v_proj", attn.kv_heads * head_dim, hidden, attn.bias)});
  const fb::RotaryEmbeddingT rope = plain_rope(head_dim, attn.theta);
  const auto turned = g.rotary(p + ".rotary", rope, {qkv[0], qkv[1]});
  fb::SoftmaxAttentionT a;
  a.heads = static_cast<int>(attn.heads);
  a.kv_heads = static_cast<int>(attn.kv_heads);
  a.head_dim = a.value_dim = static_cast<int>(head_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  a.window = static_cast<int>(attn.window);
  a.rope = std::make_unique<fb::RotaryEmbeddingT>(rope);
  const Value o = g.attention(p + ".attention", std::move(a), turned[0], turned[1], qkv[2]);
  in.ignore(p + ".rotary.inv_freq");
  return g.linear(p + ".output", o, in.projection(p + ".o_proj", hidden, hidden), fb::Activation::None,
                  residual);
}

// Checkpoints before February 2025 hold the rows of gate and, after them, of up in one matrix.
Value fla_mlp(Importer& in, const std::string& p, Value x, const FlaModel& m, Value residual) {
  const std::vector<int64_t> shape = in.shape(p + ".gate_proj.weight");
  if (in.has(p + ".up_proj.weight") || shape.empty() || shape[0] != 2 * m.intermediate)
    return gated_mlp(in, p, x, m.hidden, m.intermediate, m.activation, false, residual);
  const Rows both = in.rows(p + ".gate_proj.weight", {2 * m.intermediate, m.hidden});
  GraphBuilder& g = in.graph;
  const Weight gate =
      g.matrix(p + ".gate_proj.weight", WeightRole::kMatrix, slice_rows(both, 0, m.intermediate));
  const Weight up =
      g.matrix(p + ".up_proj.weight", WeightRole::kMatrix, slice_rows(both, m.intermediate, m.intermediate));
  const Value h = g.gated_linear(p + ".gate_up", x, {gate}, {up}, m.activation);
  return g.linear(p + ".down", h, in.projection(p + ".down_proj", m.hidden, m.intermediate),
                  fb::Activation::None, residual);
}

}  // namespace

FlaModel read_fla(Importer& in, double hidden_ratio) {
  FlaModel m;
  m.hidden = in.integer("hidden_size");
  m.layers = in.layer_count();
  m.vocabulary = in.integer("vocab_size");
  m.epsilon = static_cast<float>(in.number("norm_eps", 1e-6));
  m.activation = in.activation("hidden_act", "swish");
  m.tied = in.tied("model.embeddings.weight");
  // As the library computes it when the config leaves it open: two thirds, up to a multiple of 256.
  const auto wide =
      static_cast<int64_t>(static_cast<double>(m.hidden) * in.number("hidden_ratio", hidden_ratio) * 2 / 3);
  m.intermediate = in.integer("intermediate_size", (wide + 255) / 256 * 256);
  in.expect("attnres_block_size", Json(), "residual attention");
  in.expect("conv_bias", false);
  return m;
}

void build_fla(Importer& in, const FlaModel& m, const FlaMixer& mixer) {
  GraphBuilder& g = in.graph;
  const auto hybrid = read_hybrid(in, m);
  if (!in.errors().empty()) return;
  const Frame frame = begin_language_model(in, "model.embeddings.weight", m.vocabulary, m.hidden, 1, m.tied);
  Value x = frame.x;
  for (int64_t i = 0; i < m.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    const Value h =
        g.rms_norm(layer + ".attn_norm", x, in.vector(layer + ".attn_norm.weight", m.hidden), m.epsilon);
    const auto& softmax = hybrid[static_cast<size_t>(i)];
    x = softmax ? softmax_layer(in, *softmax, layer + ".attn", h, x, m.hidden)
                : mixer(layer + ".attn", h, x, i);
    const Value h2 =
        g.rms_norm(layer + ".mlp_norm", x, in.vector(layer + ".mlp_norm.weight", m.hidden), m.epsilon);
    x = fla_mlp(in, layer + ".mlp", h2, m, x);
  }
  x = g.rms_norm("norm", x, in.vector("model.norm.weight", m.hidden), m.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", m.vocabulary, m.hidden, m.tied);
}

FlaInputs fla_inputs(Importer& in, const std::string& p, Value h, const FlaModel& m, int64_t query_channels,
                     int64_t key_channels, int64_t value_channels, bool convolve,
                     fb::Activation qk_activation, fb::Activation v_activation) {
  const auto qkv = in.graph.linear(p + ".qkv", h,
                                   {in.projection(p + ".q_proj", query_channels, m.hidden),
                                    in.projection(p + ".k_proj", key_channels, m.hidden),
                                    in.projection(p + ".v_proj", value_channels, m.hidden)});
  if (!convolve) return {qkv[0], qkv[1], qkv[2], false};
  const int64_t kernel = in.integer("conv_size", 4);
  if (qk_activation == v_activation) {
    const auto y = short_convolution(
        in, p + ".conv", {{qkv[0], p + ".q_conv1d"}, {qkv[1], p + ".k_conv1d"}, {qkv[2], p + ".v_conv1d"}},
        kernel, v_activation);
    return {y[0], y[1], y[2], true};
  }
  const auto y = short_convolution(in, p + ".qk_conv", {{qkv[0], p + ".q_conv1d"}, {qkv[1], p + ".k_conv1d"}},
                                   kernel, qk_activation);
  return {y[0], y[1],
          short_convolution(in, p + ".v_conv", {{qkv[2], p + ".v_conv1d"}}, kernel, v_activation)[0], true};
}

Value fla_output(Importer& in, const std::string& p, Value o, Value gate, fb::Activation gate_activation,
                 int64_t value_dim, const FlaModel& m, Value residual) {
  GraphBuilder& g = in.graph;
  std::string name = p + ".o_norm";
  for (const char* other : {".g_norm_swish_gate", ".g_norm"})
    if (in.has(p + other + ".weight")) name = p + other;
  fb::NormT norm;
  norm.kind = fb::NormKind::Rms;
  norm.epsilon = m.epsilon;
  norm.group = static_cast<int>(value_dim);
  norm.gate_activation = gate ? gate_activation : fb::Activation::None;
  const int64_t channels = g.channels(o);
  const Value y =
      g.norm(p + ".o_norm", o, norm, fla_norm_weight(in, name + ".weight", value_dim), kAbsent, gate);
  return g.linear(p + ".output", y, in.projection(p + ".o_proj", m.hidden, channels), fb::Activation::None,
                  residual);
}

fb::Activation fla_activation(Importer& in, const std::string& key, const std::string& absent) {
  return in.text(key, absent) == "gelu" ? fb::Activation::GeluTanh : in.activation(key, absent);
}

Weight fla_norm_weight(Importer& in, const std::string& name, int64_t n) {
  return in.flag("elementwise_affine", true) ? in.vector(name, n) : kAbsent;
}

int64_t expanded(Importer& in, const std::string& key, double absent, int64_t hidden, int64_t heads) {
  const double expand = in.number(key, absent);
  const double channels = static_cast<double>(hidden) * expand;
  if (heads > 0 && expand > 0 && channels >= 1 && channels < 1e9 &&
      static_cast<int64_t>(channels) % heads == 0)
    return static_cast<int64_t>(channels);
  in.fail(strf("config.json: '{}' is {}, which does not make whole heads of {} channels for {} heads", key,
               expand, hidden, heads));
  return heads > 0 ? heads : 1;
}

}  // namespace linnet::convert
