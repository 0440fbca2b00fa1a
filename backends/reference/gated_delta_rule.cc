#include "backends/reference/mixer.h"

namespace linnet::reference {

// DeltaNet (Schlag et al. 2021; Yang et al. 2024), Gated DeltaNet (Yang et al. 2024), Kimi Delta Attention
// (2025).
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::GatedDeltaRuleT>();
  const int64_t keys = args.key_heads, heads = args.value_heads, group = heads / keys;
  const int64_t key_dim = args.key_dim, value_dim = args.value_dim, tokens = c.in[0].dims[0];
  const Tensor& beta_in = host::operand(c.in, 3);
  const auto &query_map = host::or_default(args.query_map), &key_map = host::or_default(args.key_map);
  const Decay decay(host::or_default(args.decay), host::operand(c.in, 4), host::operand(c.weights, 0),
                    host::operand(c.weights, 1), heads, key_dim);
  std::vector<double> factors(static_cast<size_t>(key_dim)), v(static_cast<size_t>(value_dim)), o(v.size());
  for (int64_t h = 0; h < heads; ++h) {
    HeadState state(c.states[0], h, key_dim, value_dim);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t key_at = (t * keys + h / group) * key_dim, value_at = (t * heads + h) * value_dim;
      double beta = static_cast<double>(args.beta_scale);
      if (beta_in)
        beta *= static_cast<double>(host::activate(args.beta_activation, beta_in.as()[t * heads + h]));
      for (size_t i = 0; i < factors.size(); ++i) factors[i] = decay.factor(t, h, static_cast<int64_t>(i));
      for (size_t j = 0; j < v.size(); ++j)
        v[j] = static_cast<double>(
            host::activate(args.value_activation, c.in[2].as()[value_at + static_cast<int64_t>(j)]));
      delta_step(state, factors, mapped(query_map, c.in[0].as() + key_at, key_dim),
                 mapped(key_map, c.in[1].as() + key_at, key_dim), v, beta, static_cast<double>(args.scale),
                 o);
      state.end_token();
      std::transform(o.begin(), o.end(), c.out[0].as() + value_at,
                     [](double y) { return static_cast<float>(y); });
    }
    state.store();
  }
}

Kernel kernel_gated_delta_rule() { return {run, nullptr}; }

}  // namespace linnet::reference
