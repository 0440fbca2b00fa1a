#include <numeric>

#include "backends/reference/mixer.h"

namespace linnet::reference {
namespace {

// Share of each memory in a token: softmax over all, the best top_k kept and divided by their sum; negative
// where the token is not routed to the memory.
std::vector<double> route(const float* logits, int64_t memories, int64_t top_k) {
  std::vector<double> share(static_cast<size_t>(memories), -1.0);
  const double most = static_cast<double>(*std::max_element(logits, logits + memories));
  const double total = std::accumulate(logits, logits + memories, 0.0);
  double sum = std::isnan(total) ? total : 0.0;  // a NaN among the logits makes every share one
  for (int64_t i = 0; i < top_k; ++i) {
    size_t best = share.size();
    for (size_t m = 0; m < share.size(); ++m)
      if (share[m] == -1.0 && (best == share.size() || logits[m] > logits[best])) best = m;
    sum += share[best] = std::exp(static_cast<double>(logits[best]) - most);
  }
  for (double& p : share)
    if (p != -1.0) p /= sum;
  return share;
}

// A token through the convolution of one memory, whose history then moves on.
std::vector<float> convolve(const fb::MixtureOfMemoriesT& args, const float* x, const Tensor& taps,
                            const Tensor& histories, int64_t memory, int64_t d) {
  std::vector<float> y(x, x + d);
  if (args.kernel == 0) return y;
  const int64_t kept = args.kernel - 1;
  float* history = histories.as() + memory * kept * d;
  for (int64_t i = 0; i < d; ++i) {
    double sum = static_cast<double>(taps.as()[kept * d + i]) * static_cast<double>(x[i]);
    for (int64_t j = 0; j < kept; ++j)
      sum += static_cast<double>(taps.as()[j * d + i]) * static_cast<double>(history[j * d + i]);
    y[static_cast<size_t>(i)] = host::activate(args.kernel_activation, static_cast<float>(sum));
  }
  std::copy(history + d, history + kept * d, history);
  std::copy_n(x, d, history + (kept - 1) * d);
  return y;
}

}  // namespace

// MoM (Du et al. 2025): unrouted memories are untouched, neither decayed nor shifted.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::MixtureOfMemoriesT>();
  const int64_t heads = args.heads, key_dim = args.key_dim, value_dim = args.value_dim,
                tokens = c.in[0].dims[0];
  const int64_t key_channels = heads * key_dim, value_channels = heads * value_dim;
  const int64_t all = args.memories + (args.shared ? 1 : 0);
  const auto &query_map = host::or_default(args.query_map), &key_map = host::or_default(args.key_map);
  float* out = c.out[0].as();
  std::fill_n(out, tokens * value_channels, 0.0f);
  // Row t of memory m; an input with channels for one memory serves all.
  const auto row = [&](size_t input, int64_t t, int64_t m, int64_t own) {
    const int64_t width = c.in[input].channels();
    return c.in[input].as() + t * width + (width == own ? 0 : m * own);
  };
  std::vector<double> factors(static_cast<size_t>(key_dim)), v(static_cast<size_t>(value_dim)), o(v.size());
  for (int64_t m = 0; m < all; ++m) {
    std::vector<HeadState> states;
    for (int64_t h = 0; h < heads; ++h) states.emplace_back(c.states[0], m * heads + h, key_dim, value_dim);
    for (int64_t t = 0; t < tokens; ++t) {
      double share = 1;
      if (m < args.memories)
        share = route(c.in[5].as() + t * args.memories, args.memories, args.top_k)[static_cast<size_t>(m)];
      if (share == -1.0) continue;
      const Tensor &q_taps = host::operand(c.weights, 2), &k_taps = host::operand(c.weights, 3),
                   &v_taps = host::operand(c.weights, 4);
      const auto q = convolve(args, c.in[0].as() + t * key_channels, q_taps, host::operand(c.states, 1), m,
                              key_channels);
      const auto k =
          convolve(args, row(1, t, m, key_channels), k_taps, host::operand(c.states, 2), m, key_channels);
      const auto values =
          convolve(args, row(2, t, m, value_channels), v_taps, host::operand(c.states, 3), m, value_channels);
      Tensor decay_row = c.in[4];
      decay_row.data = reinterpret_cast<std::byte*>(row(4, t, m, heads));
      decay_row.dims[decay_row.rank - 1] = heads;
      const Decay decay(host::or_default(args.decay), decay_row, host::operand(c.weights, 0),
                        host::operand(c.weights, 1), heads, key_dim);
      for (int64_t h = 0; h < heads; ++h) {
        const double beta =
            static_cast<double>(host::activate(args.beta_activation, row(3, t, m, heads)[h])) *
            static_cast<double>(args.beta_scale);
        std::fill(factors.begin(), factors.end(), decay.factor(0, h, 0));
        for (size_t j = 0; j < v.size(); ++j)
          v[j] = static_cast<double>(
              host::activate(args.value_activation, values[static_cast<size_t>(h * value_dim) + j]));
        delta_step(
            states[static_cast<size_t>(h)], factors, mapped(query_map, q.data() + h * key_dim, key_dim),
            mapped(key_map, k.data() + h * key_dim, key_dim), v, beta, static_cast<double>(args.scale), o);
        for (size_t j = 0; j < v.size(); ++j)
          out[t * value_channels + h * value_dim + static_cast<int64_t>(j)] +=
              static_cast<float>(share * o[j]);
      }
    }
    for (const HeadState& state : states) state.store();
  }
}

Kernel kernel_mixture_of_memories() { return {run, nullptr}; }

}  // namespace linnet::reference
