#include <algorithm>

#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const int64_t tokens = c.in[0].dims[0], d = c.in[0].channels();
  float* previous = c.states[0].as();
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = c.in[0].as() + t * d;
    for (size_t n = 0; n < c.out.size(); ++n)
      for (int64_t i = 0; i < d; ++i)
        c.out[n].as()[t * d + i] = x[i] + (previous[i] - x[i]) * c.weights[n].as()[i];
    std::copy_n(x, d, previous);
  }
}

Kernel kernel_token_shift() { return {run, nullptr}; }

}  // namespace linnet::reference
