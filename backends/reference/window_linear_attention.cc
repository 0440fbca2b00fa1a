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

// A run of the node: its states, and room for a head.
struct Pass {
  const KernelContext& c;
  const fb::WindowLinearAttentionT& args;
  Shape s;
  float *keys, *values;                 // of the window
  std::vector<HeadState> states, sums;  // by state head
  std::vector<float> raw, turned;       // a head before and after the rotation
  std::vector<double> scores, total;

  explicit Pass(const KernelContext& context)
      : c(context),
        args(context.args<fb::WindowLinearAttentionT>()),
        s{args.heads, args.kv_heads, args.state_heads, args.head_dim, args.value_dim, c.weights[0].dims[2],
          0,          args.window,   args.sinks},
        keys(c.states[0].as()),
        values(c.states[1].as()),
        raw(static_cast<size_t>(args.head_dim)),
        turned(raw),
        total(static_cast<size_t>(args.value_dim)) {
    s.features = s.map_columns * (args.paired_features ? 2 : 1);
    for (int64_t h = 0; h < s.state_heads; ++h) {
      states.emplace_back(c.states[2], h, s.features, s.value_dim);
      sums.emplace_back(c.states[3], h, s.features, 1);
    }
  }
  float* key(int64_t position, int64_t kv) const {
    return keys + (s.slot(position) * s.kv_heads + kv) * s.head_dim;
  }
  float* value(int64_t position, int64_t kv) const {
    return values + (s.slot(position) * s.kv_heads + kv) * s.value_dim;
  }
  void rotate(float* head, int64_t position, double sign) const {
    if (args.rope) host::rotate_head(*args.rope, sign * static_cast<double>(position), 1.0f, head);
  }
  std::vector<double> features_of(const Tensor& map, int64_t h) const {
    return features(args, s, args.rotated_features ? turned.data() : raw.data(),
                    map.as() + h * s.head_dim * s.map_columns);
  }
};

// The token at `leaving` enters the state of head h.
void enter_state(Pass& p, int64_t leaving, int64_t h) {
  const Shape& s = p.s;
  const int64_t kv = h / (s.state_heads / s.kv_heads), dv = s.value_dim;
  const float* value = p.value(leaving, kv);
  std::copy_n(p.key(leaving, kv), s.head_dim, p.turned.begin());
  p.raw = p.turned;
  p.rotate(p.raw.data(), leaving, -1);
  Tensor gate_input;
  gate_input.data = reinterpret_cast<std::byte*>(p.raw.data());
  gate_input.rank = 1;
  gate_input.dims[0] = s.head_dim;
  Tensor offset = host::operand(p.c.weights, 3), rate = host::operand(p.c.weights, 2);
  if (offset) offset.data += static_cast<size_t>(h * s.features) * sizeof(float), offset.dims[0] = s.features;
  if (rate) rate.data += static_cast<size_t>(h) * sizeof(float);
  const Decay decay(host::or_default(p.args.decay), gate_input, rate, offset, 1, s.features);
  const auto f = p.features_of(p.c.weights[1], h);
  for (int64_t i = 0; i < s.features; ++i) {
    const double factor = decay.factor(0, 0, i);
    double& z = p.sums[static_cast<size_t>(h)].at(i, 0);
    z = factor * z + f[static_cast<size_t>(i)];
    for (int64_t j = 0; j < dv; ++j) {
      double& x = p.states[static_cast<size_t>(h)].at(i, j);
      x = factor * x + f[static_cast<size_t>(i)] * static_cast<double>(value[j]);
    }
  }
}

// Token t of the run takes its place in the window.
void enter_window(const Pass& p, int64_t t, int64_t position) {
  const Shape& s = p.s;
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    float* key = p.key(position, h);
    std::copy_n(p.c.in[1].as() + (t * s.kv_heads + h) * s.head_dim, s.head_dim, key);
    p.rotate(key, position, 1);
    std::copy_n(p.c.in[2].as() + (t * s.kv_heads + h) * s.value_dim, s.value_dim, p.value(position, h));
  }
}

// Head h of token t over the positions it sees and the state.
void attend(Pass& p, int64_t t, int64_t position, int64_t h, const std::vector<int64_t>& seen) {
  const Shape& s = p.s;
  const Tensor &log_bias = host::operand(p.c.weights, 4), &log_gain = host::operand(p.c.weights, 5),
               &window_factor = host::operand(p.c.weights, 6), &linear_factor = host::operand(p.c.weights, 7);
  const int64_t d = s.head_dim, dv = s.value_dim, kv = h / (s.heads / s.kv_heads);
  const auto state_head = static_cast<size_t>(h / (s.heads / s.state_heads));
  std::copy_n(p.c.in[0].as() + (t * s.heads + h) * d, d, p.raw.begin());
  p.turned = p.raw;
  p.rotate(p.turned.data(), position, 1);
  p.scores.clear();
  for (const int64_t j : seen)
    p.scores.push_back(dot(p.turned.data(), p.key(j, kv), d) * static_cast<double>(p.args.scale));
  double most = *std::max_element(p.scores.begin(), p.scores.end());
  double share = linear_factor ? static_cast<double>(linear_factor.as()[h]) : 1.0;
  if (log_bias) {
    double w = static_cast<double>(log_bias.as()[h]);
    if (log_gain) w += dot(log_gain.as() + h * d, p.raw.data(), d);
    const double highest = most + 60;  // an empty state must leave something of the window
    w = w > highest ? highest : w;     // NaN passes
    most = w > most ? w : most;
    share *= std::exp(w - most);
  }
  const double near = window_factor ? static_cast<double>(window_factor.as()[h]) : 1.0;
  double below = static_cast<double>(p.args.epsilon);
  std::fill(p.total.begin(), p.total.end(), 0.0);
  for (size_t n = 0; n < seen.size(); ++n) {
    const double weight = near * std::exp(p.scores[n] - most);
    const float* value = p.value(seen[n], kv);
    below += weight;
    for (int64_t j = 0; j < dv; ++j)
      p.total[static_cast<size_t>(j)] += weight * static_cast<double>(value[j]);
  }
  const auto f = p.features_of(p.c.weights[0], h);
  for (int64_t i = 0; i < s.features; ++i) {
    below += share * f[static_cast<size_t>(i)] * p.sums[state_head].at(i, 0);
    for (int64_t j = 0; j < dv; ++j)
      p.total[static_cast<size_t>(j)] += share * f[static_cast<size_t>(i)] * p.states[state_head].at(i, j);
  }
  for (int64_t j = 0; j < dv; ++j)
    p.c.out[0].as()[(t * s.heads + h) * dv + j] = static_cast<float>(p.total[static_cast<size_t>(j)] / below);
}

}  // namespace

// LoLCATs (Zhang et al. 2024) and windows with sinks and a gated state under one normaliser. A token enters
// the state when it leaves the window.
static void run(const KernelContext& c) {
  Pass p(c);
  const Shape& s = p.s;
  std::vector<int64_t> seen;
  for (int64_t t = 0; t < c.in[0].dims[0]; ++t) {
    const int64_t position = c.position + t, leaving = position - s.window;
    for (int64_t h = 0; leaving >= s.sinks && h < s.state_heads; ++h) enter_state(p, leaving, h);
    enter_window(p, t, position);
    seen.clear();
    for (int64_t j = 0; j < std::min(s.sinks, position + 1); ++j) seen.push_back(j);
    for (int64_t j = std::max(s.sinks, position - s.window + 1); j <= position; ++j) seen.push_back(j);
    for (int64_t h = 0; h < s.heads; ++h) attend(p, t, position, h, seen);
  }
  for (const HeadState& state : p.states) state.store();
  for (const HeadState& sum : p.sums) sum.store();
}

Kernel kernel_window_linear_attention() { return {run, nullptr}; }

}  // namespace linnet::reference
