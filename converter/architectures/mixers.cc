#include "converter/architectures/mixers.h"

#include <algorithm>

#include "runtime/core/strings.h"

namespace linnet::convert {

std::vector<Value> short_convolution(Importer& in, const std::string& name,
                                     const std::vector<ConvolutionInput>& inputs, int64_t kernel,
                                     fb::Activation activation) {
  GraphBuilder& g = in.graph;
  std::vector<Value> xs;
  if (kernel < 2 || kernel > 16) {
    in.fail(strf("config.json: convolutions of {} taps; Linnet supports 2 to 16", kernel));
    for (const ConvolutionInput& input : inputs) xs.push_back(input.x);
    return xs;
  }
  fb::ShortConvolutionT args;
  args.kernel = static_cast<int>(kernel);
  args.activation = activation;
  std::vector<Weight> weights;
  std::vector<State> states;
  std::vector<std::vector<fb::Dim>> shapes;
  for (const ConvolutionInput& input : inputs) {
    const int64_t channels = g.channels(input.x), total = input.total > 0 ? input.total : channels;
    const std::string part = inputs.size() > 1 ? strf("{}.{}", name, xs.size()) : name;
    const std::string rename = total == channels ? "" : strf(".{}", xs.size());
    const auto chosen = [&](Rows all) {
      return input.order.empty() ? slice_rows(std::move(all), input.first, channels)
                                 : permute_rows(std::move(all), input.order);
    };
    auto taps = transpose(chosen(in.rows(input.prefix + ".weight", {total, kernel})));
    if (!taps) in.fail(taps.error().message);
    xs.push_back(input.x);
    weights.push_back(taps ? g.tensor(input.prefix + ".weight" + rename, {kernel, channels}, *taps)
                           : kAbsent);
    if (in.has(input.prefix + ".bias")) {
      // A vector is one row; as a column its channels can be cut.
      auto bias = transpose(in.rows(input.prefix + ".bias", {total}));
      if (!bias) in.fail(bias.error().message);
      weights.push_back(bias ? g.vector(input.prefix + ".bias" + rename, chosen(std::move(*bias))) : kAbsent);
    } else {
      weights.push_back(kAbsent);
    }
    states.push_back(g.state(part + ".history", fb::StateRole::History,
                             {GraphBuilder::fixed(kernel - 1), GraphBuilder::fixed(channels)}));
    shapes.push_back(g.shape(input.x));
  }
  return g.node(name, GraphBuilder::args(std::move(args)), std::move(xs), std::move(weights),
                std::move(states), std::move(shapes));
}

Value gated_linear_attention(Importer& in, const std::string& name, fb::GatedLinearAttentionT args,
                             Value query, Value key, Value value, Value decay, DecayWeights weights,
                             Weight skip) {
  GraphBuilder& g = in.graph;
  const int64_t heads = std::max(args.key_heads, args.value_heads),
                outputs = std::max<int64_t>(args.query_heads, heads);
  const auto k = GraphBuilder::fixed(args.key_dim), v = GraphBuilder::fixed(args.value_dim),
             h = GraphBuilder::fixed(heads);
  std::vector<State> states = {g.state(name + ".state", fb::StateRole::Recurrent, {h, k, v})};
  if (args.normalized) states.push_back(g.state(name + ".normalizer", fb::StateRole::Recurrent, {h, k}));
  const int64_t channels = outputs * args.value_dim;
  return g.node(name, GraphBuilder::args(std::move(args)), {query, key, value, decay},
                {weights.rate, weights.offset, skip}, std::move(states), {g.like(query, channels)})[0];
}

Value gated_delta_rule(Importer& in, const std::string& name, fb::GatedDeltaRuleT args, Value query,
                       Value key, Value value, Value beta, Value decay, DecayWeights weights) {
  GraphBuilder& g = in.graph;
  const State state = g.state(name + ".state", fb::StateRole::Recurrent,
                              {GraphBuilder::fixed(args.value_heads), GraphBuilder::fixed(args.key_dim),
                               GraphBuilder::fixed(args.value_dim)});
  const int64_t channels = int64_t{args.value_heads} * args.value_dim;
  return g.node(name, GraphBuilder::args(std::move(args)), {query, key, value, beta, decay},
                {weights.rate, weights.offset}, {state}, {g.like(query, channels)})[0];
}

Value window_linear_attention(Importer& in, const std::string& name, fb::WindowLinearAttentionT args,
                              int64_t columns, Value query, Value key, Value value,
                              const WindowLinearWeights& w) {
  GraphBuilder& g = in.graph;
  const auto fixed = [](int64_t n) { return GraphBuilder::fixed(n); };
  const int64_t ring = int64_t{args.sinks} + args.window, kv = args.kv_heads, states = args.state_heads;
  const int64_t features = columns * (args.paired_features ? 2 : 1);
  const std::vector<State> own = {
      g.state(name + ".keys", fb::StateRole::History, {fixed(ring), fixed(kv * args.head_dim)}),
      g.state(name + ".values", fb::StateRole::History, {fixed(ring), fixed(kv * args.value_dim)}),
      g.state(name + ".state", fb::StateRole::Recurrent,
              {fixed(states), fixed(features), fixed(args.value_dim)}),
      g.state(name + ".normalizer", fb::StateRole::Recurrent, {fixed(states), fixed(features)})};
  const int64_t channels = int64_t{args.heads} * args.value_dim;
  if (args.rope && args.rope->amplitude != 1)
    in.fail("config.json: a rotary scaling with an attention factor is not supported beside a linear state");
  return g.node(name, GraphBuilder::args(std::move(args)), {query, key, value},
                {w.query_map, w.key_map, w.decay.rate, w.decay.offset, w.log_bias, w.log_gain,
                 w.window_factor, w.linear_factor},
                own, {g.like(query, channels)})[0];
}

Weight mapped_vector(Importer& in, const std::string& tensor, int64_t n,
                     const std::function<double(double)>& f) {
  return in.graph.vector(tensor, map_rows(in.rows(tensor, {n}), [f, n](int64_t, float* values) {
                           for (int64_t i = 0; i < n; ++i)
                             values[i] = static_cast<float>(f(static_cast<double>(values[i])));
                         }));
}

std::unique_ptr<fb::DecayT> decay(fb::DecayKind kind) {
  auto result = std::make_unique<fb::DecayT>();
  result->kind = kind;
  return result;
}

std::unique_ptr<fb::HeadMapT> head_map(fb::Activation activation, fb::HeadNorm norm, float epsilon) {
  auto result = std::make_unique<fb::HeadMapT>();
  result->activation = activation;
  result->norm = norm;
  result->epsilon = epsilon;
  return result;
}

}  // namespace linnet::convert
