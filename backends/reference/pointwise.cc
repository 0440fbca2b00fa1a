#include <cmath>

#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::PointwiseT>();
  const int64_t n = c.out[0].elements(), channels = c.out[0].channels(), own = c.in[0].channels();
  const bool table = !c.weights.empty();
  float* y = c.out[0].as();
  for (int64_t i = 0; i < n; ++i) {
    // Element i of a and b, of which a is repeated to the table's channels and the table to a's rows.
    const float* a = c.in[0].as() + (table ? i / channels * own + i % channels % own : i) - i;
    const float* b = table ? c.weights[0].as() + i % channels - i : c.in.size() > 1 ? c.in[1].as() : nullptr;
    switch (args.kind) {
      case fb::PointwiseKind::Add:
        y[i] = a[i] + b[i];
        break;
      case fb::PointwiseKind::Multiply:
        y[i] = a[i] * b[i];
        break;
      case fb::PointwiseKind::Activate:
        y[i] = host::activate(args.activation, a[i]);
        break;
      case fb::PointwiseKind::ActivateMultiply:
        y[i] = host::activate(args.activation, a[i]) * b[i];
        break;
      case fb::PointwiseKind::Scale:
        y[i] = args.alpha * a[i] + args.beta;
        break;
      case fb::PointwiseKind::Softcap:
        y[i] = args.alpha * std::tanh(a[i] / args.alpha);
        break;
      case fb::PointwiseKind::ScaledAdd:
        y[i] = args.alpha * a[i] + args.beta * b[i];
        break;
    }
  }
}

Kernel kernel_pointwise() { return {run, nullptr}; }

}  // namespace linnet::reference
