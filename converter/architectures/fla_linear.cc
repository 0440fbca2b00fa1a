// GLA, simple GLA, RetNet and HGRN2 in flash-linear-attention's format: linear attention with decays of every
// kind. Follows fla/layers/gla.py, simple_gla.py, multiscale_retention.py and hgrn2.py.
#include <algorithm>
#include <cmath>

#include "converter/architectures/fla.h"
#include "converter/architectures/mixers.h"
#include "converter/architectures/rope.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Heads {
  int64_t heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
};

Heads read_heads(Importer& in, const FlaModel& m, double expand_k, double expand_v, int64_t absent_heads) {
  Heads h;
  h.heads = in.integer("num_heads", absent_heads);
  h.kv_heads = in.integer("num_kv_heads", h.heads);
  h.key_dim = expanded(in, "expand_k", expand_k, m.hidden, h.heads) / std::max<int64_t>(h.heads, 1);
  h.value_dim = expanded(in, "expand_v", expand_v, m.hidden, h.heads) / std::max<int64_t>(h.heads, 1);
  if (h.heads <= 0 || h.kv_heads <= 0 || h.heads % h.kv_heads != 0)
    in.fail(strf("config.json: num_heads {} is no multiple of num_kv_heads {}", h.heads, h.kv_heads));
  return h;
}

fb::GatedLinearAttentionT linear_args(const Heads& h) {
  fb::GatedLinearAttentionT a;
  a.query_heads = static_cast<int>(h.heads);
  a.key_heads = a.value_heads = static_cast<int>(h.kv_heads);
  a.key_dim = static_cast<int>(h.key_dim);
  a.value_dim = static_cast<int>(h.value_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(h.key_dim)));
  return a;
}

Value output_gate(Importer& in, const std::string& p, Value h, const FlaModel& m, const Heads& heads) {
  if (!in.flag("use_output_gate", true)) return kAbsent;
  return in.graph.linear(p + ".g", h, in.projection(p + ".g_proj", heads.heads * heads.value_dim, m.hidden));
}

// q, k and v with as many key and value heads as query heads: where the checkpoint has fewer, the decay
// differs among the query heads that share one, so each gets rows of its own.
FlaInputs head_inputs(Importer& in, const std::string& p, Value h, const FlaModel& m, const Heads& heads,
                      bool convolve) {
  const int64_t keys = heads.heads * heads.key_dim, values = heads.heads * heads.value_dim;
  if (heads.kv_heads == heads.heads)
    return fla_inputs(in, p, h, m, keys, keys, values, convolve, fb::Activation::Silu, fb::Activation::Silu);
  const auto order_of = [&](int64_t dim) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < heads.heads; ++i)
      for (int64_t r = 0; r < dim; ++r) order.push_back(i / (heads.heads / heads.kv_heads) * dim + r);
    return order;
  };
  const auto repeated = [&](const std::string& name, int64_t dim) {
    const Rows rows = in.rows(p + name + ".weight", {heads.kv_heads * dim, m.hidden});
    return Projection{
        in.graph.matrix(p + name + ".weight", WeightRole::kMatrix, permute_rows(rows, order_of(dim)))};
  };
  const auto qkv =
      in.graph.linear(p + ".qkv", h,
                      {in.projection(p + ".q_proj", keys, m.hidden), repeated(".k_proj", heads.key_dim),
                       repeated(".v_proj", heads.value_dim)});
  if (!convolve) return {qkv[0], qkv[1], qkv[2], false};
  const int64_t few_keys = heads.kv_heads * heads.key_dim, few_values = heads.kv_heads * heads.value_dim;
  const auto y = short_convolution(in, p + ".conv",
                                   {{qkv[0], p + ".q_conv1d"},
                                    {qkv[1], p + ".k_conv1d", 0, few_keys, order_of(heads.key_dim)},
                                    {qkv[2], p + ".v_conv1d", 0, few_values, order_of(heads.value_dim)}},
                                   in.integer("conv_size", 4), fb::Activation::Silu);
  return {y[0], y[1], y[2], true};
}

// The negative floor of a log decay.
float clamp(Importer& in) {
  const double least = in.number("clamp_min", 0);
  if (in.has_key("clamp_min") && least >= 0)
    in.fail(strf("config.json: 'clamp_min' is {}, expected a negative number", least));
  return static_cast<float>(least);
}

}  // namespace

void import_gla(Importer& in) {
  const FlaModel m = read_fla(in);
  const Heads heads = read_heads(in, m, 0.5, 1.0, 4);
  const float least = clamp(in);
  in.expect("use_gk", true);
  in.expect("use_gv", false);
  const bool mapped = in.has_key("feature_map");
  const fb::Activation feature = mapped ? fla_activation(in, "feature_map", "relu") : fb::Activation::None;
  const bool convolve = in.flag("use_short_conv", false);
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    const int64_t keys = heads.kv_heads * heads.key_dim;
    const FlaInputs x =
        fla_inputs(in, p, h, m, heads.heads * heads.key_dim, keys, heads.kv_heads * heads.value_dim, convolve,
                   fb::Activation::Silu, fb::Activation::Silu);
    const auto low = in.shape(p + ".gk_proj.0.weight");
    const int64_t rank = low.empty() ? 16 : low[0];
    const Value inner = in.graph.linear(
        p + ".gk.0", h, in.projection(p + ".gk_proj.0", rank, m.hidden, false, WeightRole::kSmall));
    const Value gk = in.graph.linear(p + ".gk.1", inner,
                                     in.projection(p + ".gk_proj.1", keys, rank, true, WeightRole::kSmall));
    auto args = linear_args(heads);
    args.decay = decay(fb::DecayKind::LogSigmoid);
    args.decay->divisor = 16;
    args.decay->minimum = least;
    args.query_map = head_map(feature);
    args.key_map = head_map(feature);
    const Value gate = output_gate(in, p, h, m, heads);
    const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), x.q, x.k, x.v, gk);
    return fla_output(in, p, o, gate, fb::Activation::Silu, heads.value_dim, m, residual);
  });
}

void import_simple_gla(Importer& in) {
  const FlaModel m = read_fla(in);
  const Heads heads = read_heads(in, m, 1.0, 1.0, 4);
  const bool mapped = in.has_key("feature_map");
  const fb::Activation feature = mapped ? fla_activation(in, "feature_map", "relu") : fb::Activation::None;
  const bool convolve = in.flag("use_short_conv", true);
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    const FlaInputs x = head_inputs(in, p, h, m, heads, convolve);
    const bool bias = in.has(p + ".gk_proj.bias");
    const Value gk = in.graph.linear(
        p + ".gk", h, in.projection(p + ".gk_proj", heads.heads, m.hidden, bias, WeightRole::kSmall));
    auto args = linear_args(heads);
    args.key_heads = args.value_heads = static_cast<int>(heads.heads);
    args.decay = decay(fb::DecayKind::LogSigmoid);
    args.decay->divisor = 16;
    args.query_map = head_map(feature);
    args.key_map = head_map(feature);
    const Value gate = output_gate(in, p, h, m, heads);
    const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), x.q, x.k, x.v, gk);
    return fla_output(in, p, o, gate, fb::Activation::Silu, heads.value_dim, m, residual);
  });
}

void import_retnet(Importer& in) {
  const FlaModel m = read_fla(in, 2);
  const Heads heads = read_heads(in, m, 1.0, 2.0, 8);
  const bool mapped = in.has_key("feature_map");
  const fb::Activation feature = mapped ? fla_activation(in, "feature_map", "relu") : fb::Activation::None;
  const bool convolve = in.flag("use_short_conv", false);
  const fb::RotaryEmbeddingT rope = plain_rope(heads.key_dim, 10000);
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    // The library's model leaves convolutions out whatever the config says.
    FlaInputs x = head_inputs(in, p, h, m, heads, convolve && in.has(p + ".q_conv1d.weight"));
    if (mapped)
      for (Value* v : {&x.q, &x.k})
        *v = in.graph.pointwise(strf("{}.mapped.{}", p, v == &x.q ? "q" : "k"), fb::PointwiseKind::Activate,
                                *v, kAbsent, feature);
    const auto turned = in.graph.rotary(p + ".rotary", rope, {x.q, x.k});
    auto args = linear_args(heads);
    args.key_heads = args.value_heads = static_cast<int>(heads.heads);
    args.decay = decay(fb::DecayKind::Constant);
    std::vector<float> rates;  // log(1 - 2^(-5 - head))
    for (int64_t i = 0; i < heads.heads; ++i)
      rates.push_back(static_cast<float>(std::log1p(-std::exp2(-5.0 - static_cast<double>(i)))));
    const Weight rate = in.constant(p + ".decay", {heads.heads}, std::move(rates));
    const Value gate = output_gate(in, p, h, m, heads);
    const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), turned[0], turned[1], x.v,
                                           kAbsent, {rate, kAbsent});
    in.ignore(p + ".rotary.inv_freq");
    return fla_output(in, p, o, gate, fb::Activation::Silu, heads.value_dim, m, residual);
  });
}

void import_hgrn2(Importer& in) {
  const FlaModel m = read_fla(in);
  // Key channels of a head; with it num_heads is not read. Null, unlike absent, leaves it to num_heads.
  const bool by_heads = in.config().contains("expand_ratio") && !in.has_key("expand_ratio");
  const int64_t ratio = by_heads ? 0 : in.integer("expand_ratio", 128);
  const int64_t heads = by_heads ? in.integer("num_heads") : ratio > 0 ? m.hidden / ratio : 0;
  if (heads <= 0 || m.hidden % heads != 0)
    in.fail(strf("config.json: {} heads do not divide a hidden size of {}", heads, m.hidden));
  const bool convolve = in.flag("use_short_conv", false);
  const int64_t key_dim = by_heads && heads > 0 ? m.hidden / heads : ratio;
  constexpr int64_t kMostKeys = int64_t{1} << 20;
  if (key_dim < 1 || key_dim > kMostKeys || heads > kMostKeys / std::max<int64_t>(key_dim, 1))
    in.fail(strf("config.json: {} heads of {} key channels: expected 1 to {} channels in all", heads, key_dim,
                 kMostKeys));
  if (!in.errors().empty()) return;
  const int64_t keys = heads * key_dim;
  // A layer forgets no faster than its bound: the share of the layers before it, without the first's.
  std::vector<float> bounds(static_cast<size_t>(m.layers * keys));
  if (in.flag("use_lower_bound", true)) {
    const auto raw = read_all(*in.rows("model.lower_bounds", {m.layers, keys}));
    if (!raw) return in.fail(raw.error().message);
    const auto at = [&](int64_t layer, int64_t c) {
      return static_cast<double>((*raw)[static_cast<size_t>(layer * keys + c)]);
    };
    for (int64_t c = 0; c < keys; ++c) {
      double most = at(0, c), sum = 0, share = 0;
      for (int64_t i = 1; i < m.layers; ++i) most = std::max(most, at(i, c));
      for (int64_t i = 0; i < m.layers; ++i) sum += std::exp(at(i, c) - most);
      for (int64_t i = 1; i < m.layers; ++i) {
        share += std::exp(at(i, c) - most) / sum;
        bounds[static_cast<size_t>(i * keys + c)] = static_cast<float>(share);
      }
    }
  }
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t layer) {
    auto qfi = in.graph.linear(
        p + ".qfi", h,
        {in.projection(p + ".q_proj", keys, m.hidden), in.projection(p + ".f_proj", keys, m.hidden),
         in.projection(p + ".i_proj", m.hidden, m.hidden)});
    if (convolve)
      qfi = short_convolution(
          in, p + ".conv", {{qfi[0], p + ".q_conv1d"}, {qfi[1], p + ".f_conv1d"}, {qfi[2], p + ".i_conv1d"}},
          in.integer("conv_size", 4), fb::Activation::None);
    Heads shape{heads, heads, key_dim, m.hidden / heads};
    auto args = linear_args(shape);
    args.query_map = head_map(fb::Activation::Silu);
    args.decay = decay(fb::DecayKind::LowerBounded);
    const auto first = bounds.begin() + layer * keys;
    const Weight offset = in.constant(p + ".lower_bound", {keys}, {first, first + keys});
    const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), qfi[0], kAbsent, qfi[2], qfi[1],
                                           {kAbsent, offset});
    // The layer makes this norm with the class default, whatever the config's norm_eps is.
    const Value y =
        in.graph.rms_norm(p + ".g_norm", o, fla_norm_weight(in, p + ".g_norm.weight", m.hidden), 1e-5f);
    return in.graph.linear(p + ".output", y, in.projection(p + ".o_proj", m.hidden, m.hidden),
                           fb::Activation::None, residual);
  });
}

}  // namespace linnet::convert
