#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::EmbeddingT>();
  const auto* ids = c.in[0].as<int32_t>();
  const int64_t d = c.out[0].channels();
  for (int64_t t = 0; t < c.in[0].dims[0]; ++t) {
    float* y = c.out[0].as() + t * d;
    weight_row(c.weights[0], ids[t], y);  // the session has checked the range of ids
    for (int64_t i = 0; i < d; ++i) y[i] *= args.scale;
  }
}

Kernel kernel_embedding() { return {run, nullptr}; }

}  // namespace linnet::reference
