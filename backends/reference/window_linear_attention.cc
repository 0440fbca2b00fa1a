#include "backends/reference/mixer.h"
#include "runtime/core/ring_slot.h"

namespace linnet::reference {
namespace {

struct Shape {
  int64_t heads, kv_heads, state_heads, head_dim, value_dim, map_columns, features, window, sinks;
  int64_t slot(int64_t position) const { return ring_slot(position, sinks, sinks + window); }
};

// softmax(x M), and softmax(-x M) after it where paired; M [head_dim, map_columns].
std::vector<double> features(const fb::WindowLinearAttentionT& args, const Shape& s, const float* x,
                             const float* map) {
  std::vector<float> y(static_cast<size_t>(s.features));
  for (int64_t f = 0; f < s.map_columns; ++f) {
    double sum = 0;
    for (int64_t i = 0; i < s.head_dim; ++i)
      sum += static_cast<double>(x[i]) * static_cast<double>(map[i * s.map_columns + f]);
    y[static_cast<size_t>(f)] = static_cast<float>(sum);
    if (args.paired_features) y[static_cast<size_t>(s.map_columns + f)] = static_cast<float>(-sum);
  }
  fb::HeadMapT softmax;
  softmax.norm = fb::HeadNorm::Softmax;
  std::vector<double> all;
  for (int64_t f = 0; f < s.features; f += s.map_columns)
    for (const double v : mapped(softmax, &y[static_cast<size_t>(f)], s.map_columns))
      all.push_back(v < static_cast<double>(args.feature_floor) ? static_cast<double>(args.feature_floor)
                                                                : v);
  return all;
}

}  // namespace

// LoLCATs (Zhang et al. 2024) and windows with sinks and a gated state under one normaliser. A token enters
// the state when it leaves the window.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::WindowLinearAttentionT>();
  const Tensor &query_map = c.weights[0], &key_map = c.weights[1], &log_bias = host::operand(c.weights, 4),
               &log_gain = host::operand(c.weights, 5), &window_factor = host::operand(c.weights, 6),
               &linear_factor = host::operand(c.weights, 7);
  Shape s{args.heads, args.kv_heads, args.state_heads, args.head_dim, args.value_dim, query_map.dims[2],
          0,          args.window,   args.sinks};
  s.features = s.map_columns * (args.paired_features ? 2 : 1);
  const int64_t d = s.head_dim, dv = s.value_dim, tokens = c.in[0].dims[0];
  float *const keys = c.states[0].as(), *const values = c.states[1].as();
  std::vector<HeadState> states, sums;
  for (int64_t h = 0; h < s.state_heads; ++h) {
    states.emplace_back(c.states[2], h, s.features, dv);
    sums.emplace_back(c.states[3], h, s.features, 1);
  }
  const auto rotate = [&](float* head, int64_t position, double sign) {
    if (args.rope) host::rotate_head(*args.rope, sign * static_cast<double>(position), 1.0f, head);
  };
  std::vector<float> raw(static_cast<size_t>(d)), turned(raw);
  std::vector<double> scores, total(static_cast<size_t>(dv));
  std::vector<int64_t> seen;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = c.position + t, leaving = position - s.window;
    for (int64_t h = 0; leaving >= s.sinks && h < s.state_heads; ++h) {
      const int64_t kv = h / (s.state_heads / s.kv_heads);
      const float* key = keys + (s.slot(leaving) * s.kv_heads + kv) * d;
      const float* value = values + (s.slot(leaving) * s.kv_heads + kv) * dv;
      std::copy_n(key, d, turned.begin());
      std::copy_n(key, d, raw.begin());
      rotate(raw.data(), leaving, -1);
      Tensor gate_input;
      gate_input.data = reinterpret_cast<std::byte*>(raw.data());
      gate_input.rank = 1;
      gate_input.dims[0] = d;
      Tensor offset = host::operand(c.weights, 3), rate = host::operand(c.weights, 2);
      if (offset)
        offset.data += static_cast<size_t>(h * s.features) * sizeof(float), offset.dims[0] = s.features;
      if (rate) rate.data += static_cast<size_t>(h) * sizeof(float);
      const Decay decay(host::or_default(args.decay), gate_input, rate, offset, 1, s.features);
      const auto f = features(args, s, args.rotated_features ? turned.data() : raw.data(),
                              key_map.as() + h * d * s.map_columns);
      for (int64_t i = 0; i < s.features; ++i) {
        const double factor = decay.factor(0, 0, i);
        double& z = sums[static_cast<size_t>(h)].at(i, 0);
        z = factor * z + f[static_cast<size_t>(i)];
        for (int64_t j = 0; j < dv; ++j) {
          double& x = states[static_cast<size_t>(h)].at(i, j);
          x = factor * x + f[static_cast<size_t>(i)] * static_cast<double>(value[j]);
        }
      }
    }
    const int64_t slot = s.slot(position);
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      float* key = keys + (slot * s.kv_heads + h) * d;
      std::copy_n(c.in[1].as() + (t * s.kv_heads + h) * d, d, key);
      rotate(key, position, 1);
      std::copy_n(c.in[2].as() + (t * s.kv_heads + h) * dv, dv, values + (slot * s.kv_heads + h) * dv);
    }
    seen.clear();
    for (int64_t j = 0; j < std::min(s.sinks, position + 1); ++j) seen.push_back(j);
    for (int64_t j = std::max(s.sinks, position - s.window + 1); j <= position; ++j) seen.push_back(j);
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / (s.heads / s.kv_heads);
      const auto state_head = static_cast<size_t>(h / (s.heads / s.state_heads));
      std::copy_n(c.in[0].as() + (t * s.heads + h) * d, d, raw.begin());
      turned = raw;
      rotate(turned.data(), position, 1);
      scores.clear();
      for (const int64_t j : seen)
        scores.push_back(dot(turned.data(), keys + (s.slot(j) * s.kv_heads + kv) * d, d) *
                         static_cast<double>(args.scale));
      double most = *std::max_element(scores.begin(), scores.end());
      double share = linear_factor ? static_cast<double>(linear_factor.as()[h]) : 1.0;
      if (log_bias) {
        double w = static_cast<double>(log_bias.as()[h]);
        if (log_gain) w += dot(log_gain.as() + h * d, raw.data(), d);
        const double highest = most + 60;  // an empty state must leave something of the window
        w = w > highest ? highest : w;     // NaN passes
        most = w > most ? w : most;
        share *= std::exp(w - most);
      }
      const double near = window_factor ? static_cast<double>(window_factor.as()[h]) : 1.0;
      double below = static_cast<double>(args.epsilon);
      std::fill(total.begin(), total.end(), 0.0);
      for (size_t n = 0; n < seen.size(); ++n) {
        const double weight = near * std::exp(scores[n] - most);
        const float* value = values + (s.slot(seen[n]) * s.kv_heads + kv) * dv;
        below += weight;
        for (int64_t j = 0; j < dv; ++j)
          total[static_cast<size_t>(j)] += weight * static_cast<double>(value[j]);
      }
      const auto f = features(args, s, args.rotated_features ? turned.data() : raw.data(),
                              query_map.as() + h * d * s.map_columns);
      for (int64_t i = 0; i < s.features; ++i) {
        below += share * f[static_cast<size_t>(i)] * sums[state_head].at(i, 0);
        for (int64_t j = 0; j < dv; ++j)
          total[static_cast<size_t>(j)] += share * f[static_cast<size_t>(i)] * states[state_head].at(i, j);
      }
      for (int64_t j = 0; j < dv; ++j)
        c.out[0].as()[(t * s.heads + h) * dv + j] = static_cast<float>(total[static_cast<size_t>(j)] / below);
    }
  }
  for (const HeadState& state : states) state.store();
  for (const HeadState& sum : sums) sum.store();
}

Kernel kernel_window_linear_attention() { return {run, nullptr}; }

}  // namespace linnet::reference
