#include <cstring>

#include "backends/cpu/kernels.h"

namespace linnet::cpu {

static void run_concat_heads(const KernelContext& c) {
  const auto& args = c.args<fb::ConcatHeadsT>();
  const int64_t heads = args.heads, width = c.out[0].channels();
  c.pool->parallel_for(c.out[0].dims[0], 32768 / width + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* y = c.out[0].as() + t * width;
      for (int64_t h = 0; h < heads; ++h) {
        for (size_t n = 0; n < c.in.size(); ++n) {
          const int64_t size = args.sizes[n], channels = c.in[n].channels();
          const float* x = c.in[n].as() + t * channels + (channels == size ? 0 : h * size);
          std::memcpy(y, x, static_cast<size_t>(size) * sizeof(float));
          y += size;
        }
      }
    }
  });
}

Kernel kernel_concat_heads(CpuTarget) { return {run_concat_heads, nullptr}; }

}  // namespace linnet::cpu
