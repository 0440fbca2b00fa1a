#include <cstring>

#include "backends/reference/kernels.h"

namespace linnet::reference {

// RoFormer (Su et al. 2021); half-split as Hugging Face has it, interleaved as GPT-J has it.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::RotaryEmbeddingT>();
  for (size_t i = 0; i < c.in.size(); ++i) {
    const int64_t d = c.in[i].channels(), rows = c.in[i].rows();
    std::memcpy(c.out[i].data, c.in[i].data, static_cast<size_t>(d * rows) * sizeof(float));
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t h = 0; h < d; h += args.head_dim)
        host::rotate_head(args, static_cast<double>(c.position + t), args.amplitude,
                          c.out[i].as() + t * d + h);
  }
}

Kernel kernel_rotary_embedding() { return {run, nullptr}; }

}  // namespace linnet::reference
