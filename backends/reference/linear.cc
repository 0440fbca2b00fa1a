#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::LinearT>();
  const Tensor& x = c.in[0];
  const float* residual = c.in.size() > 1 && c.in[1] ? c.in[1].as() : nullptr;
  const bool gate = c.in.size() > 2 && c.in[2];
  const int64_t k = x.channels(), rows = x.rows();
  std::vector<float> w(static_cast<size_t>(k));
  for (size_t m = 0; m < c.weights.size() / 2; ++m) {
    const Tensor& matrix = c.weights[2 * m];
    const float* bias = c.weights[2 * m + 1].as();
    const bool second_half = args.gated && m == 1;
    const Tensor& out = c.out[args.gated ? 0 : m];
    const int64_t n = matrix.dims[0];
    const float* part = gate ? c.in[2].as() + args.gate_part * n : nullptr;
    for (int64_t j = 0; j < n; ++j) {
      weight_row(matrix, j, w.data());
      for (int64_t r = 0; r < rows; ++r) {
        auto sum = static_cast<float>(dot(x.as() + r * k, w.data(), k) +
                                      (bias ? static_cast<double>(bias[j]) : 0.0));
        float& y = out.as()[r * n + j];
        if (second_half)
          y *= sum;
        else
          y = host::activate(args.activation, sum);
        if (part && (!args.gated || second_half)) y *= part[j];
        if (residual && (!args.gated || second_half)) y += residual[r * n + j];
      }
    }
  }
}

Kernel kernel_linear() { return {run, nullptr}; }

}  // namespace linnet::reference
