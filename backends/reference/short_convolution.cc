#include "backends/host/mixer.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {

// Causal depthwise convolution; the state holds the last kernel - 1 inputs, oldest first.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::ShortConvolutionT>();
  const int64_t taps = args.kernel, kept = taps - 1;
  for (size_t n = 0; n < c.in.size(); ++n) {
    const int64_t tokens = c.in[n].dims[0], d = c.in[n].channels();
    const float *x = c.in[n].as(), *w = c.weights[2 * n].as();
    const Tensor& bias = host::operand(c.weights, 2 * n + 1);
    float* history = c.states[n].as();
    const auto input = [&](int64_t t, int64_t i) {
      return t < 0 ? history[(kept + t) * d + i] : x[t * d + i];
    };
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < d; ++i) {
        double y = bias ? static_cast<double>(bias.as()[i]) : 0.0;
        for (int64_t j = 0; j < taps; ++j)
          y += static_cast<double>(w[j * d + i]) * static_cast<double>(input(t - kept + j, i));
        c.out[n].as()[t * d + i] = host::activate(args.activation, static_cast<float>(y));
      }
    }
    for (int64_t j = 0; j < kept; ++j)  // forward: a short run shifts the history in place
      for (int64_t i = 0; i < d; ++i) history[j * d + i] = input(tokens - kept + j, i);
  }
}

Kernel kernel_short_convolution() { return {run, nullptr}; }

}  // namespace linnet::reference
