#include "backends/reference/kernels.h"

namespace linnet::reference {

// Row r of head h: a row of one of the inputs.
struct Heads {
  const KernelContext& c;
  int64_t size;  // of a head in an interleaved input
  const float* at(int64_t r, int64_t h) const {
    for (const Tensor& x : c.in) {
      const int64_t here = x.channels() / size;
      if (h < here) return x.as() + (r * here + h) * size;
      h -= here;
    }
    return nullptr;
  }
};

// Katharopoulos et al. 2020, "Transformers are RNNs", without a mask: sums over all keys first.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::LinearAttentionT>();
  const int64_t heads = args.heads, K = args.head_dim, V = args.value_dim;
  const int64_t rows = c.in[0].rows(), keys = args.interleaved ? rows : c.in[1].rows();
  const Heads packed{c, 2 * K + V};
  const auto q = [&](int64_t r, int64_t h) {
    return args.interleaved ? packed.at(r, h) : c.in[0].as() + (r * heads + h) * K;
  };
  const auto k = [&](int64_t r, int64_t h) {
    return args.interleaved ? packed.at(r, h) + K : c.in[1].as() + (r * heads + h) * K;
  };
  const auto v = [&](int64_t r, int64_t h) {
    return args.interleaved ? packed.at(r, h) + 2 * K : c.in[2].as() + (r * heads + h) * V;
  };
  std::vector<double> state(static_cast<size_t>(K * (V + 1))), out(static_cast<size_t>(V + 1));
  for (int64_t h = 0; h < heads; ++h) {
    std::fill(state.begin(), state.end(), 0.0);
    const auto add = [&](int64_t r) {
      for (int64_t i = 0; i < K; ++i) {
        const auto f = static_cast<double>(host::activate(args.activation, k(r, h)[i]));
        double* s = &state[static_cast<size_t>(i * (V + 1))];
        for (int64_t j = 0; j < V; ++j) s[j] += f * static_cast<double>(v(r, h)[j]);
        s[V] += f;
      }
    };
    for (int64_t r = 0; r < keys; ++r) add(r);
    for (int64_t r = 0; r < rows; ++r) {
      std::fill(out.begin(), out.end(), 0.0);
      for (int64_t i = 0; i < K; ++i) {
        const auto f = static_cast<double>(host::activate(args.activation, q(r, h)[i]));
        for (int64_t j = 0; j <= V; ++j)
          out[static_cast<size_t>(j)] += f * state[static_cast<size_t>(i * (V + 1) + j)];
      }
      const double divisor = out[static_cast<size_t>(V)] + static_cast<double>(args.epsilon);
      for (int64_t j = 0; j < V; ++j)
        c.out[0].as()[(r * heads + h) * V + j] = static_cast<float>(out[static_cast<size_t>(j)] / divisor);
    }
  }
}

Kernel kernel_linear_attention() { return {run, nullptr}; }

}  // namespace linnet::reference
