#include <cmath>

#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::LogitsT>();
  const int64_t k = c.in[0].channels(), rows = c.out[0].dims[0], n = c.weights[0].dims[0];
  const float* x = c.in[0].as() + (c.in[0].dims[0] - rows) * k;
  std::vector<float> w(static_cast<size_t>(k));
  for (int64_t j = 0; j < n && rows > 0; ++j) {
    weight_row(c.weights[0], j, w.data());
    for (int64_t r = 0; r < rows; ++r) {
      float y = static_cast<float>(dot(x + r * k, w.data(), k)) * args.scale;
      if (args.softcap > 0) y = args.softcap * std::tanh(y / args.softcap);
      c.out[0].as()[r * n + j] = y;
    }
  }
}

Kernel kernel_logits() { return {run, nullptr}; }

}  // namespace linnet::reference
