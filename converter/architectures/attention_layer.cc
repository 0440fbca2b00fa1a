#include "converter/architectures/attention_layer.h"

#include <cmath>

namespace linnet::convert {

Value attention_layer(Importer& in, const std::string& p, Value h, const AttentionLayer& layer,
                      Value residual) {
  GraphBuilder& g = in.graph;
  const int64_t hidden = layer.hidden, d = layer.head_dim, heads = layer.heads;
  std::vector<Projection> projections;
  if (layer.gated) {
    const Rows both = in.rows(p + ".q_proj.weight", {2 * heads * d, hidden});
    projections.push_back(
        {g.matrix(p + ".q_proj.weight", WeightRole::kMatrix, grouped_rows(both, heads, 0, d))});
    projections.push_back(
        {g.matrix(p + ".q_proj.gate", WeightRole::kMatrix, grouped_rows(both, heads, d, d))});
    if (layer.qkv_bias) {
      const Rows bias = in.rows(p + ".q_proj.bias", {2 * heads * d, 1});
      projections[0].bias = g.vector(p + ".q_proj.bias", grouped_rows(bias, heads, 0, d));
      projections[1].bias = g.vector(p + ".q_proj.gate_bias", grouped_rows(bias, heads, d, d));
    }
  } else {
    projections.push_back(in.projection(p + ".q_proj", heads * d, hidden, layer.qkv_bias));
  }
  projections.push_back(in.projection(p + ".k_proj", layer.kv_heads * d, hidden, layer.qkv_bias));
  projections.push_back(in.projection(p + ".v_proj", layer.kv_heads * d, hidden, layer.qkv_bias));
  const auto parts = g.linear(p + ".qkv", h, projections);
  Value q = parts[0], k = parts[parts.size() - 2];
  if (layer.qk_norm) {
    const int group = static_cast<int>(d);
    q = g.rms_norm(p + ".q_norm", q, in.vector(p + ".q_norm.weight", d), layer.epsilon, layer.norm_offset,
                   group);
    k = g.rms_norm(p + ".k_norm", k, in.vector(p + ".k_norm.weight", d), layer.epsilon, layer.norm_offset,
                   group);
  }
  fb::SoftmaxAttentionT a;
  if (layer.rope) {
    const auto turned = g.rotary(p + ".rotary", *layer.rope, {q, k});
    q = turned[0];
    k = turned[1];
    a.rope = std::make_unique<fb::RotaryEmbeddingT>(*layer.rope);
  }
  a.heads = static_cast<int>(heads);
  a.kv_heads = static_cast<int>(layer.kv_heads);
  a.head_dim = a.value_dim = static_cast<int>(d);
  a.scale = static_cast<float>(layer.scale != 0 ? layer.scale : 1.0 / std::sqrt(static_cast<double>(d)));
  a.window = static_cast<int>(layer.window);
  if (layer.gated) a.gate_activation = fb::Activation::Sigmoid;
  const Value o =
      g.attention(p + ".attention", std::move(a), q, k, parts.back(), layer.gated ? parts[1] : kAbsent);
  in.ignore(p + ".rotary_emb.inv_freq");
  return g.linear(p + ".output", o, in.projection(p + ".o_proj", hidden, heads * d, layer.output_bias),
                  fb::Activation::None, residual);
}

}  // namespace linnet::convert
