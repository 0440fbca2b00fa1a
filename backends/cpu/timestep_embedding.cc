#include "backends/cpu/kernels.h"
#include "backends/host/embeddings.h"

namespace linnet::cpu {

static void run_timestep_embedding(const KernelContext& c) {
  const int64_t d = c.out[0].channels();
  for (int64_t r = 0; r < c.out[0].rows(); ++r)
    host::timestep_row(c.args<fb::TimestepEmbeddingT>(), c.in[0].as()[r], d, c.out[0].as() + r * d);
}

Kernel kernel_timestep_embedding(CpuTarget) { return {run_timestep_embedding, nullptr}; }

}  // namespace linnet::cpu
