// RWKV-7 in flash-linear-attention's format. Follows fla/layers/rwkv7.py and fla/models/rwkv7.
#include <algorithm>
#include <cmath>

#include "converter/architectures/fla.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Rwkv {
  int64_t hidden = 0, heads = 1, head_dim = 64, value_dim = 64;
  float epsilon = 1e-5f, removal_epsilon = 1e-24f;
  bool norm_bias = true;
  fb::Activation activation = fb::Activation::ReluSquared;
};

Value layer_norm(Importer& in, const std::string& name, Value x, const Rwkv& m, float epsilon,
                 int64_t group = 0) {
  const int64_t channels = in.graph.channels(x);
  fb::NormT norm;
  norm.kind = fb::NormKind::Layer;
  norm.epsilon = epsilon;
  norm.group = static_cast<int>(group);
  const Weight bias = m.norm_bias || group > 0 ? in.vector(name + ".bias", channels) : kAbsent;
  return in.graph.norm(name, x, norm, in.vector(name + ".weight", channels), bias);
}

// x and its difference to the token before, mixed by a vector for each output.
std::vector<Value> token_shift(Importer& in, const std::string& name, Value x,
                               const std::vector<std::string>& mixes) {
  GraphBuilder& g = in.graph;
  const int64_t d = g.channels(x);
  std::vector<Weight> weights;
  for (const std::string& mix : mixes) weights.push_back(in.vector(mix, d));
  const State last =
      g.state(name + ".last", fb::StateRole::History, {GraphBuilder::fixed(1), GraphBuilder::fixed(d)});
  std::vector<std::vector<fb::Dim>> shapes(mixes.size(), g.shape(x));
  return g.node(name, GraphBuilder::args(fb::TokenShiftT()), {x}, std::move(weights), {last},
                std::move(shapes));
}

// outer(activation(inner x)) (+ bias)
Value low_rank(Importer& in, const std::string& p, Value x, int64_t outputs, fb::Activation inner,
               bool bias) {
  const int64_t hidden = in.graph.channels(x);
  const auto shape = in.shape(p + ".lora.0.weight");
  const int64_t rank = shape.empty() ? 1 : shape[0];
  const Value y = in.graph.linear(
      p + ".inner", x, in.projection(p + ".lora.0", rank, hidden, false, WeightRole::kLowRank), inner);
  return in.graph.linear(p + ".outer", y,
                         in.projection(p + ".lora.2", outputs, rank, bias, WeightRole::kLowRank));
}

// The time mix. `first` is the value of layer 0, which the later layers are mixed with.
Value time_mix(Importer& in, const std::string& p, Value h, const Rwkv& m, Value& first, Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t values = m.heads * m.value_dim;
  const auto x = token_shift(in, p + ".shift", h,
                             {p + ".x_r", p + ".x_w", p + ".x_k", p + ".x_v", p + ".x_a", p + ".x_g"});
  const Value r = g.linear(p + ".r", x[0], in.projection(p + ".r_proj", m.hidden, m.hidden));
  const Value k = g.linear(p + ".k", x[2], in.projection(p + ".k_proj", m.hidden, m.hidden));
  const Value v = g.linear(p + ".v", x[3], in.projection(p + ".v_proj", values, m.hidden));
  const Value w = low_rank(in, p + ".w_lora", x[1], m.hidden, fb::Activation::Tanh, true);
  const Value a = low_rank(in, p + ".a_lora", x[4], m.hidden, fb::Activation::None, true);
  const Value gate = low_rank(in, p + ".g_lora", x[5], values, fb::Activation::Sigmoid, false);
  std::vector<Value> inputs = {r, w, k, v, a, kAbsent};
  if (!first) {
    first = v;
  } else {
    inputs.push_back(first);
    inputs.push_back(low_rank(in, p + ".v_lora", x[3], values, fb::Activation::None, true));
  }
  fb::DplrRecurrenceT args;
  args.heads = static_cast<int>(m.heads);
  args.key_dim = static_cast<int>(m.head_dim);
  args.value_dim = static_cast<int>(m.value_dim);
  args.decay = decay(fb::DecayKind::Sigmoid);
  args.decay->slope = static_cast<float>(-std::exp(-0.5));
  args.rate_activation = fb::Activation::Sigmoid;
  args.removal_epsilon = m.removal_epsilon;
  const State state = g.state(
      p + ".mixer.state", fb::StateRole::Recurrent,
      {GraphBuilder::fixed(m.heads), GraphBuilder::fixed(m.head_dim), GraphBuilder::fixed(m.value_dim)});
  const Weight bonus = g.vector(p + ".r_k", in.rows(p + ".r_k", {m.heads, m.head_dim}));
  const auto y =
      g.node(p + ".mixer", GraphBuilder::args(std::move(args)), std::move(inputs),
             {kAbsent, kAbsent, in.vector(p + ".k_k", m.hidden), in.vector(p + ".k_a", m.hidden), bonus},
             {state}, {g.shape(v), g.shape(v)});
  const float epsilon = static_cast<float>(static_cast<double>(m.head_dim) * static_cast<double>(m.epsilon));
  const Value normed = layer_norm(in, p + ".g_norm", y[0], m, epsilon, m.value_dim);
  const Value o =
      g.pointwise(p + ".gated", fb::PointwiseKind::Multiply, g.add(p + ".bonus", normed, y[1]), gate);
  return g.linear(p + ".output", o, in.projection(p + ".o_proj", m.hidden, values), fb::Activation::None,
                  residual);
}

}  // namespace

void import_rwkv7(Importer& in) {
  Rwkv m;
  m.hidden = in.integer("hidden_size");
  m.head_dim = in.integer("head_dim", 64);
  m.epsilon = static_cast<float>(in.number("norm_eps", 1e-5));
  m.norm_bias = in.flag("norm_bias", true);
  if (in.has_key("num_heads") && !in.has_key("head_dim"))
    m.head_dim = m.hidden / std::max<int64_t>(in.integer("num_heads"), 1);
  if (m.hidden <= 0 || m.head_dim <= 0 || m.hidden % m.head_dim != 0)
    return in.fail(
        strf("config.json: heads of {} channels do not divide a hidden size of {}", m.head_dim, m.hidden));
  m.heads = m.hidden / m.head_dim;
  if (in.has_key("num_heads")) in.expect("num_heads", m.heads, "hidden_size / head_dim");
  const int64_t layers = in.layer_count(), vocabulary = in.integer("vocab_size");
  // As the library computes it: hidden times the ratio, up to a multiple of 32.
  const auto wide = static_cast<int64_t>(static_cast<double>(m.hidden) * in.number("hidden_ratio", 4));
  const int64_t intermediate = in.integer("intermediate_size", (wide + 31) / 32 * 32);
  const bool norm_first = in.flag("norm_first", true);
  const bool tied = in.tied("model.embeddings.weight");
  m.activation = fla_activation(in, "hidden_act", "sqrelu");
  // The library's fused norms add 1e-6 under the root; torch's normalize keeps lengths from 1e-12 up.
  m.removal_epsilon = in.flag("fuse_norm", true) ? 1e-6f : 1e-24f;
  in.expect("attn", Json(), "attention layers between RWKV-7 layers");
  in.expect("attnres_block_size", Json(), "residual attention");
  m.value_dim = m.head_dim;
  if (in.has_key("value_dim")) {
    // One number, or one for each layer: all alike, as later layers are mixed with the values of the first.
    const Json& given = in.config()["value_dim"];
    const Json list = given.is_array() ? given : Json::array({given});
    const int64_t wide = list.empty() ? 0 : integer_of(list[0], 0, int64_t{1} << 24).value_or(0);
    if (list.empty()) in.fail("config.json: 'value_dim' is an empty list");
    for (const Json& d : list)
      if (d != wide || wide < m.hidden || wide % m.hidden != 0 || wide > (int64_t{1} << 24))
        in.fail(strf(
            "config.json: 'value_dim' has {}, expected one multiple of the hidden size {} for all layers",
            json_text(d), m.hidden));
    m.value_dim = wide / m.heads;
  }
  if (!in.errors().empty()) return;

  GraphBuilder& g = in.graph;
  const Frame frame = begin_language_model(in, "model.embeddings.weight", vocabulary, m.hidden, 1, tied);
  Value x = frame.x, first = kAbsent;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    if (i == 0 && norm_first) x = layer_norm(in, layer + ".pre_norm", x, m, m.epsilon);
    const Value h = layer_norm(in, layer + ".attn_norm", x, m, m.epsilon);
    x = time_mix(in, layer + ".attn", h, m, first, x);
    const Value h2 = layer_norm(in, layer + ".ffn_norm", x, m, m.epsilon);
    const Value mixed = token_shift(in, layer + ".ffn.shift", h2, {layer + ".ffn.x_k"})[0];
    const Value key = g.linear(layer + ".ffn.key", mixed,
                               in.projection(layer + ".ffn.key", intermediate, m.hidden), m.activation);
    x = g.linear(layer + ".ffn.value", key, in.projection(layer + ".ffn.value", m.hidden, intermediate),
                 fb::Activation::None, x);
  }
  x = layer_norm(in, "model.norm", x, m, m.epsilon);
  end_language_model(in, frame, x, "lm_head.weight", vocabulary, m.hidden, tied);
}

}  // namespace linnet::convert
