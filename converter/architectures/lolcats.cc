// LoLCATs (Zhang et al. 2024): a Llama whose attention sees a window of keys exactly and all older ones
// through learned feature maps, under one normaliser. Follows OpenSparseLLMs/Linearization,
// lolcats/models/lolcats, and HazyResearch/lolcats, src/model/linear_attention/linear_window_attention_sw.py:
// their decode and their sliding mask ("terraced" training masks differ, decode does not).
#include <cmath>

#include "converter/architectures/llama.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Maps of all heads, [heads, head_dim, F] for x M: one tensor `layer`, or a linear layer [F, head_dim] for
// each head. With a skip connection x M + x. *columns: F.
Weight feature_map(Importer& in, const std::string& p, const LlamaShape& s, bool skip, int64_t* columns) {
  const std::string whole = p + ".mlp.layer";
  const auto linear = [&](int64_t h) { return p + ".mlp.linears." + std::to_string(h) + ".weight"; };
  const int64_t d = s.head_dim;
  Rows maps;
  if (in.has(whole)) {
    const auto shape = in.shape(whole);
    *columns = shape.size() == 3 ? shape[2] : d;
    maps = in.rows(whole, {s.heads, d, *columns});
  } else {
    const auto shape = in.shape(linear(0));
    *columns = shape.size() == 2 ? shape[0] : d;
    std::vector<Rows> parts;
    for (int64_t h = 0; h < s.heads; ++h) {
      auto turned = transpose(in.rows(linear(h), {*columns, d}));
      if (!turned) return in.fail(turned.error().message), kAbsent;
      parts.push_back(std::move(*turned));
    }
    maps = concat_rows(std::move(parts));
  }
  if (in.has(p + ".mlp.bias")) in.fail(strf("'{}.mlp.bias': feature maps with a bias are not supported", p));
  if (skip) {
    if (*columns != d)
      in.fail(strf("'{}': a skip connection needs as many features ({}) as channels ({})", p, *columns, d));
    maps = map_rows(maps, [d](int64_t row, float* values) { values[row % d] += 1; });
  }
  return in.graph.tensor(p + ".map", {s.heads, d, *columns}, maps);
}

bool known_map(const std::string& name) { return name == "lolcats_hedgehog" || name == "softmax_dim"; }

}  // namespace

void import_lolcats(Importer& in) {
  LlamaShape s = read_llama(in);
  s.mlp_bias = in.flag("mlp_bias", false);
  in.expect("attention_bias", false);
  in.expect("attn", Json());
  const std::string map = in.text("feature_map", "lolcats_hedgehog");
  if (!known_map(map))
    in.fail(strf(
        "config.json: 'feature_map' is '{}'; Linnet has lolcats_hedgehog (softmax_dim): softmax of x and -x",
        map));
  const int64_t window = in.integer("window_size", 64);
  if (window < 1) in.fail(strf("config.json: 'window_size' is {}, expected a positive integer", window));
  const bool affine = in.flag("affine_attention_factors", false), skip = in.flag("skip_connection", false);
  const double initial = in.number("init_window_factor", -2.1972245773362196);
  // Linearization adds 1e-6, HazyResearch nothing.
  const auto epsilon = static_cast<float>(in.number("normalizer_epsilon", 1e-6));
  const bool tied = in.flag("tie_feature_map_qk", false);
  if (!in.errors().empty()) return;
  build_llama(in, s, [&](const LlamaLayer& l) {
    fb::WindowLinearAttentionT args;
    args.heads = args.state_heads = static_cast<int>(s.heads);
    args.kv_heads = static_cast<int>(s.kv_heads);
    args.head_dim = args.value_dim = static_cast<int>(s.head_dim);
    args.window = static_cast<int>(window);
    args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
    args.rope = std::make_unique<fb::RotaryEmbeddingT>(s.rope);
    args.rotated_features = args.paired_features = true;
    args.feature_floor = 1e-12f;
    args.epsilon = epsilon;
    WindowLinearWeights w;
    int64_t columns = 0, key_columns = 0;
    // Of a map that both share, a file may have either name, or both.
    const std::string queries = l.name + ".feature_map_q", keys = l.name + ".feature_map_k";
    const bool under_q = in.has(queries + ".mlp.layer") || in.has(queries + ".mlp.linears.0.weight");
    w.query_map = feature_map(in, tied && !under_q ? keys : queries, s, skip, &columns);
    if (tied && under_q) {
      in.ignore(keys + ".mlp.layer");
      for (int64_t h = 0; h < s.heads; ++h) in.ignore(keys + ".mlp.linears." + std::to_string(h) + ".weight");
    }
    w.key_map = tied ? w.query_map : feature_map(in, keys, s, skip, &key_columns);
    if (!tied && key_columns != columns)
      in.fail(strf("'{}' has {} features, the queries' map {}", keys, key_columns, columns));
    // A buffer that some checkpoints leave out because it is never trained.
    const std::string factors = l.name + ".window_factors";
    std::vector<float> near(static_cast<size_t>(s.heads), static_cast<float>(initial));
    if (in.has(factors)) {
      if (auto values = read_all(*in.rows(factors, {s.heads})))
        near = std::move(*values);
      else
        in.fail(values.error().message);
    }
    std::vector<float> far(near.size(), 1.0f);
    for (size_t h = 0; h < near.size(); ++h) {
      const double share = 1 / (1 + std::exp(-static_cast<double>(near[h])));
      near[h] = static_cast<float>(share);
      if (affine) far[h] = static_cast<float>(1 - share);
    }
    w.window_factor = in.constant(l.name + ".window_factors", {s.heads}, std::move(near));
    if (affine) w.linear_factor = in.constant(l.name + ".linear_factors", {s.heads}, std::move(far));
    return window_linear_attention(in, l.name + ".mixer", std::move(args), columns, l.q, l.k, l.v, w);
  });
}

}  // namespace linnet::convert
