#include "backends/host/embeddings.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  for (int64_t r = 0; r < c.out[0].rows(); ++r)
    host::timestep_row(c.args<fb::TimestepEmbeddingT>(), c.in[0].as()[r], c.out[0].channels(),
                       c.out[0].as() + r * c.out[0].channels());
}

Kernel kernel_timestep_embedding() { return {run, nullptr}; }

}  // namespace linnet::reference
