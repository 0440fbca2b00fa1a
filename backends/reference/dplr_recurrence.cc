#include "backends/reference/mixer.h"

namespace linnet::reference {

// RWKV-7 (Peng et al. 2025): the removal reads the state before its decay.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::DplrRecurrenceT>();
  const int64_t heads = args.heads, key_dim = args.key_dim, value_dim = args.value_dim,
                tokens = c.in[0].dims[0];
  const Tensor &removal_in = host::operand(c.in, 5), &first = host::operand(c.in, 6),
               &mix = host::operand(c.in, 7);
  const Tensor &removal_scale = host::operand(c.weights, 2), &rate_mix = host::operand(c.weights, 3),
               &bonus = host::operand(c.weights, 4);
  const Decay decay(host::or_default(args.decay), c.in[1], host::operand(c.weights, 0),
                    host::operand(c.weights, 1), heads, key_dim);
  const auto size = static_cast<size_t>(key_dim);
  std::vector<double> k(size), a(size), removal(size), v(static_cast<size_t>(value_dim));
  for (int64_t h = 0; h < heads; ++h) {
    HeadState state(c.states[0], h, key_dim, value_dim);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t key_at = (t * heads + h) * key_dim, value_at = (t * heads + h) * value_dim;
      const float* r = c.in[0].as() + key_at;
      double squares = 0;
      for (int64_t i = 0; i < key_dim; ++i) {
        const auto n = static_cast<size_t>(i);
        const auto raw = static_cast<double>(c.in[2].as()[key_at + i]);
        a[n] = static_cast<double>(host::activate(args.rate_activation, c.in[4].as()[key_at + i]));
        const double scale = removal_scale ? static_cast<double>(removal_scale.as()[h * key_dim + i]) : 1.0;
        removal[n] = removal_in ? static_cast<double>(removal_in.as()[key_at + i]) : raw * scale;
        squares += removal[n] * removal[n];
        k[n] = raw;
        if (rate_mix) k[n] *= 1.0 + (a[n] - 1.0) * static_cast<double>(rate_mix.as()[h * key_dim + i]);
      }
      const double length = std::sqrt(squares + static_cast<double>(args.removal_epsilon));
      if (!removal_in && length > 0)
        for (double& x : removal) x /= length;
      for (int64_t j = 0; j < value_dim; ++j) {
        double& y = v[static_cast<size_t>(j)];
        y = static_cast<double>(c.in[3].as()[value_at + j]);
        if (first) {
          const auto gate =
              static_cast<double>(host::activate(fb::Activation::Sigmoid, mix.as()[value_at + j]));
          y += (static_cast<double>(first.as()[value_at + j]) - y) * gate;
        }
      }
      for (int64_t j = 0; j < value_dim; ++j) {
        double removed = 0, y = 0;
        for (int64_t i = 0; i < key_dim; ++i) removed += removal[static_cast<size_t>(i)] * state.at(i, j);
        removed = host::limit_write(removed);
        for (int64_t i = 0; i < key_dim; ++i) {
          const auto n = static_cast<size_t>(i);
          double& s = state.at(i, j);
          s = decay.factor(t, h, i) * s - removal[n] * a[n] * removed + k[n] * v[static_cast<size_t>(j)];
          y += static_cast<double>(r[i]) * s;
        }
        c.out[0].as()[value_at + j] = static_cast<float>(y * static_cast<double>(args.scale));
      }
      state.end_token();
      if (!bonus) continue;
      double weight = 0;
      for (int64_t i = 0; i < key_dim; ++i)
        weight += static_cast<double>(r[i]) * k[static_cast<size_t>(i)] *
                  static_cast<double>(bonus.as()[h * key_dim + i]);
      for (int64_t j = 0; j < value_dim; ++j)
        c.out[1].as()[value_at + j] = static_cast<float>(weight * v[static_cast<size_t>(j)]);
    }
    state.store();
  }
}

Kernel kernel_dplr_recurrence() { return {run, nullptr}; }

}  // namespace linnet::reference
