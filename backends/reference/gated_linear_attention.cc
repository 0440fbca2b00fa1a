#include "backends/reference/mixer.h"

namespace linnet::reference {

// GLA (Yang et al. 2023), RetNet (Sun et al. 2023), HGRN2 (Qin et al. 2024), Mamba-2 (Dao and Gu 2024) and
// their relatives; linear attention with a normaliser is Katharopoulos et al. 2020.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::GatedLinearAttentionT>();
  const int64_t queries = args.query_heads, keys = args.key_heads, values = args.value_heads;
  const int64_t heads = std::max(keys, values), outputs = std::max(queries, heads);
  const int64_t key_dim = args.key_dim, value_dim = args.value_dim, tokens = c.in[0].dims[0];
  const Tensor &k_in = c.in[1], &v_in = c.in[2], &skip = host::operand(c.weights, 2);
  const auto &query_map = host::or_default(args.query_map), &key_map = host::or_default(args.key_map);
  const fb::DecayT& decay_args = host::or_default(args.decay);
  const Decay decay(decay_args, host::operand(c.in, 3), host::operand(c.weights, 0),
                    host::operand(c.weights, 1), heads, args.decay_values ? value_dim : key_dim);
  std::vector<double> k(static_cast<size_t>(key_dim)), v(static_cast<size_t>(value_dim));
  for (int64_t h = 0; h < heads; ++h) {
    HeadState state(c.states[0], h, key_dim, value_dim);
    std::vector<double> sum(static_cast<size_t>(key_dim));  // z
    if (args.normalized) std::copy_n(c.states[1].as() + h * key_dim, key_dim, sum.begin());
    for (int64_t t = 0; t < tokens; ++t) {
      // An absent key or value is what the decay takes away.
      if (k_in)
        k = mapped(key_map, k_in.as() + (t * keys + h / (heads / keys)) * key_dim, key_dim);
      else
        for (int64_t i = 0; i < key_dim; ++i) k[static_cast<size_t>(i)] = 1.0 - decay.factor(t, h, i);
      for (int64_t j = 0; j < value_dim; ++j) {
        double& y = v[static_cast<size_t>(j)];
        if (!v_in) {
          y = 1.0 - decay.factor(t, h, j);
          continue;
        }
        const float x = v_in.as()[(t * values + h / (heads / values)) * value_dim + j];
        y = static_cast<double>(host::activate(args.value_activation, x));
      }
      const double step = args.step_scales_write ? decay.step(t, h, 0) : 1.0;
      for (int64_t i = 0; i < key_dim; ++i) {
        for (int64_t j = 0; j < value_dim; ++j) {
          double& s = state.at(i, j);
          s = decay.factor(t, h, args.decay_values ? j : i) * s +
              k[static_cast<size_t>(i)] * (step * v[static_cast<size_t>(j)]);
        }
        double& z = sum[static_cast<size_t>(i)];
        if (args.normalized) z = decay.factor(t, h, i) * z + k[static_cast<size_t>(i)];
      }
      for (int64_t o = h * (outputs / heads); o < (h + 1) * (outputs / heads); ++o) {
        const std::vector<double> q =
            mapped(query_map, c.in[0].as() + (t * queries + o / (outputs / queries)) * key_dim, key_dim);
        double divisor = 1;
        if (args.normalized) {
          divisor = 0;
          for (int64_t i = 0; i < key_dim; ++i)
            divisor += q[static_cast<size_t>(i)] * sum[static_cast<size_t>(i)];
          divisor = divisor * static_cast<double>(args.scale) + static_cast<double>(args.normalizer_epsilon);
        }
        for (int64_t j = 0; j < value_dim; ++j) {
          double y = 0;
          for (int64_t i = 0; i < key_dim; ++i) y += q[static_cast<size_t>(i)] * state.at(i, j);
          y = y * static_cast<double>(args.scale) / divisor;
          if (skip) y += static_cast<double>(skip.as()[o]) * v[static_cast<size_t>(j)];
          c.out[0].as()[(t * outputs + o) * value_dim + j] = static_cast<float>(y);
        }
      }
      state.end_token();
    }
    state.store();
    if (args.normalized)
      std::transform(sum.begin(), sum.end(), c.states[1].as() + h * key_dim,
                     [](double z) { return static_cast<float>(z); });
  }
}

Kernel kernel_gated_linear_attention() { return {run, nullptr}; }

}  // namespace linnet::reference
