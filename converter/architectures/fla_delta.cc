// DeltaNet, Gated DeltaNet and Kimi Delta Attention in flash-linear-attention's format.
// Follows fla/layers/delta_net.py, gated_deltanet.py and kda.py.
#include <algorithm>
#include <cmath>

#include "converter/architectures/fla.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr float kL2Epsilon = 1e-6f;  // inside the root

struct DeltaHeads {
  int64_t heads = 1, value_heads = 1, key_dim = 1, value_dim = 1;
};

// num_heads, num_v_heads, head_dim and expand_v, as Gated DeltaNet and KDA have them.
DeltaHeads read_delta_heads(Importer& in, int64_t head_dim, int64_t heads, double expand_v) {
  DeltaHeads h;
  h.heads = in.integer("num_heads", heads);
  h.value_heads = in.integer("num_v_heads", h.heads);
  h.key_dim = in.integer("head_dim", head_dim);
  h.value_dim = expanded(in, "expand_v", expand_v, h.key_dim, 1);
  if (h.key_dim <= 0) in.fail(strf("config.json: 'head_dim' is {}, expected a positive number", h.key_dim));
  if (h.heads <= 0 || h.value_heads <= 0 || h.value_heads % h.heads != 0)
    in.fail(strf("config.json: num_v_heads {} is no multiple of num_heads {}", h.value_heads, h.heads));
  return h;
}

fb::GatedDeltaRuleT delta_args(Importer& in, const DeltaHeads& h) {
  fb::GatedDeltaRuleT a;
  a.key_heads = static_cast<int>(h.heads);
  a.value_heads = static_cast<int>(h.value_heads);
  a.key_dim = static_cast<int>(h.key_dim);
  a.value_dim = static_cast<int>(h.value_dim);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(h.key_dim)));
  a.query_map = head_map(fb::Activation::None, fb::HeadNorm::L2, kL2Epsilon);
  a.key_map = head_map(fb::Activation::None, fb::HeadNorm::L2, kL2Epsilon);
  a.beta_activation = fb::Activation::Sigmoid;
  a.beta_scale = in.flag("allow_neg_eigval", false) ? 2.0f : 1.0f;
  return a;
}

// Without convolutions the mixer does what their activation would.
void activate_inputs(fb::GatedDeltaRuleT& args) {
  args.query_map->activation = args.key_map->activation = args.value_activation = fb::Activation::Silu;
}

}  // namespace

void import_delta_net(Importer& in) {
  const FlaModel m = read_fla(in);
  DeltaHeads heads;
  heads.heads = heads.value_heads = in.integer("num_heads", 16);
  heads.key_dim = expanded(in, "expand_k", 1, m.hidden, heads.heads) / std::max<int64_t>(heads.heads, 1);
  heads.value_dim = expanded(in, "expand_v", 1, m.hidden, heads.heads) / std::max<int64_t>(heads.heads, 1);
  const std::string norm = in.text("qk_norm", "l2"), name = in.text("qk_activation", "silu");
  fb::Activation qk = fb::Activation::Silu;
  if (name == "relu")
    qk = fb::Activation::Relu;
  else if (name == "elu")
    qk = fb::Activation::Elu1;
  else if (name == "identity")
    qk = fb::Activation::None;
  else if (name != "silu")
    in.fail(strf("config.json: 'qk_activation' is '{}'; Linnet has silu, relu, elu and identity", name));
  if (norm != "l2" && norm != "sum")
    in.fail(strf("config.json: 'qk_norm' is '{}'; Linnet has l2 and sum", norm));
  const bool beta = in.flag("use_beta", true), convolve = in.flag("use_short_conv", true);
  in.expect("use_output_norm", true);
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    const int64_t keys = heads.heads * heads.key_dim, values = heads.heads * heads.value_dim;
    // Only SiLU belongs to the convolutions of q and k; the others come after it.
    const bool inside = convolve && qk == fb::Activation::Silu;
    const FlaInputs x = fla_inputs(in, p, h, m, keys, keys, values, convolve,
                                   inside ? qk : fb::Activation::None, fb::Activation::Silu);
    auto args = delta_args(in, heads);
    for (auto* map : {args.query_map.get(), args.key_map.get()}) {
      map->activation = inside ? fb::Activation::None : qk;
      if (norm == "sum") map->norm = fb::HeadNorm::Sum, map->epsilon = 0;
    }
    args.value_activation = convolve ? fb::Activation::None : fb::Activation::Silu;
    const Value b =
        beta ? in.graph.linear(p + ".b", h,
                               in.projection(p + ".b_proj", heads.heads, m.hidden, false, WeightRole::kSmall))
             : kAbsent;
    const Value gate = in.flag("use_gate", false)
                           ? in.graph.linear(p + ".g", h, in.projection(p + ".g_proj", values, m.hidden))
                           : kAbsent;
    const Value o = gated_delta_rule(in, p + ".mixer", std::move(args), x.q, x.k, x.v, b, kAbsent);
    return fla_output(in, p, o, gate, fb::Activation::Silu, heads.value_dim, m, residual);
  });
}

void import_gated_deltanet(Importer& in) {
  const FlaModel m = read_fla(in);
  const DeltaHeads heads = read_delta_heads(in, 256, 6, 2);
  const bool convolve = in.flag("use_short_conv", true);
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    const int64_t keys = heads.heads * heads.key_dim, values = heads.value_heads * heads.value_dim;
    const FlaInputs x =
        fla_inputs(in, p, h, m, keys, keys, values, convolve, fb::Activation::Silu, fb::Activation::Silu);
    const auto ab = in.graph.linear(
        p + ".ab", h,
        {in.projection(p + ".a_proj", heads.value_heads, m.hidden, false, WeightRole::kSmall),
         in.projection(p + ".b_proj", heads.value_heads, m.hidden, false, WeightRole::kSmall)});
    auto args = delta_args(in, heads);
    if (!convolve) activate_inputs(args);
    args.decay = decay(fb::DecayKind::Softplus);
    const Weight rate =
        mapped_vector(in, p + ".A_log", heads.value_heads, [](double a) { return -std::exp(a); });
    const Weight offset = in.vector(p + ".dt_bias", heads.value_heads);
    const Value gate = in.flag("use_gate", true)
                           ? in.graph.linear(p + ".g", h, in.projection(p + ".g_proj", values, m.hidden))
                           : kAbsent;
    const Value o =
        gated_delta_rule(in, p + ".mixer", std::move(args), x.q, x.k, x.v, ab[1], ab[0], {rate, offset});
    return fla_output(in, p, o, gate, fb::Activation::Silu, heads.value_dim, m, residual);
  });
}

void import_kda(Importer& in) {
  const FlaModel m = read_fla(in);
  const DeltaHeads heads = read_delta_heads(in, 128, 16, 1);
  const bool convolve = in.flag("use_short_conv", true);
  in.expect("use_gate", true);
  const bool bounded = in.has_key("lower_bound");
  const double bound = in.number("lower_bound", 0);
  if (!bounded && in.flag("safe_gate", false)) in.fail("config.json: safe_gate needs a lower_bound");
  if (bounded && bound >= 0)
    in.fail(strf("config.json: 'lower_bound' is {}, expected a negative number", bound));
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    GraphBuilder& g = in.graph;
    const int64_t keys = heads.heads * heads.key_dim, values = heads.value_heads * heads.value_dim;
    const int64_t decays = heads.value_heads * heads.key_dim;
    const FlaInputs x =
        fla_inputs(in, p, h, m, keys, keys, values, convolve, fb::Activation::Silu, fb::Activation::Silu);
    const auto rank = [&](const std::string& name) {
      const auto shape = in.shape(name + ".0.weight");
      return shape.empty() ? heads.value_dim : shape[0];
    };
    const int64_t f_rank = rank(p + ".f_proj"), g_rank = rank(p + ".g_proj");
    const auto low =
        g.linear(p + ".low_rank", h,
                 {in.projection(p + ".f_proj.0", f_rank, m.hidden, false, WeightRole::kSmall),
                  in.projection(p + ".g_proj.0", g_rank, m.hidden, false, WeightRole::kSmall),
                  in.projection(p + ".b_proj", heads.value_heads, m.hidden, false, WeightRole::kSmall)});
    const Value f =
        g.linear(p + ".f", low[0], in.projection(p + ".f_proj.1", decays, f_rank, false, WeightRole::kSmall));
    const bool bias = in.has(p + ".g_proj.1.bias");
    const Value gate =
        g.linear(p + ".g", low[1], in.projection(p + ".g_proj.1", values, g_rank, bias, WeightRole::kSmall));
    auto args = delta_args(in, heads);
    if (!convolve) activate_inputs(args);
    DecayWeights weights;
    weights.offset = in.vector(p + ".dt_bias", decays);
    if (bounded) {
      args.decay = decay(fb::DecayKind::Sigmoid);
      args.decay->slope = static_cast<float>(bound);
      if (in.has(p + ".A_log"))
        weights.rate =
            mapped_vector(in, p + ".A_log", heads.value_heads, [](double a) { return std::exp(a); });
    } else {
      args.decay = decay(fb::DecayKind::Softplus);
      weights.rate =
          mapped_vector(in, p + ".A_log", heads.value_heads, [](double a) { return -std::exp(a); });
    }
    const Value o = gated_delta_rule(in, p + ".mixer", std::move(args), x.q, x.k, x.v, low[2], f, weights);
    return fla_output(in, p, o, gate, fb::Activation::Sigmoid, heads.value_dim, m, residual);
  });
}

}  // namespace linnet::convert
