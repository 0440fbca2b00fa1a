#include <algorithm>

#include "backends/cpu/kernels.h"
#include "backends/host/embeddings.h"

namespace linnet::cpu {

// The sinusoids of every column and row once; then sums.
static void run_position_embedding_2d(const KernelContext& c) {
  const auto& args = c.args<fb::PositionEmbedding2dT>();
  const Tensor& x = c.in[0];
  const int64_t height = x.dims[0], width = x.dims[1], half = x.dims[2] / 2;
  auto* columns = reinterpret_cast<float*>(c.scratch);
  float* rows = columns + width * half;
  c.pool->parallel_for(width + height, 4096 / half + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i < width)
        host::position_channels(args, i, width, half, columns + i * half);
      else
        host::position_channels(args, i - width, height, half, rows + (i - width) * half);
    }
  });
  c.pool->parallel_for(height, 16384 / std::max<int64_t>(width * half, 1) + 1,
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; ++i) {
                           for (int64_t j = 0; j < width; ++j) {
                             const int64_t at = (i * width + j) * 2 * half;
                             const float* from = x.as() + at;
                             float* to = c.out[0].as() + at;
                             for (int64_t n = 0; n < half; ++n) to[n] = from[n] + columns[j * half + n];
                             for (int64_t n = 0; n < half; ++n)
                               to[half + n] = from[half + n] + rows[i * half + n];
                           }
                         }
                       });
}

static size_t scratch(const KernelContext& c) {
  const Tensor& x = c.in[0];
  return static_cast<size_t>((x.dims[0] + x.dims[1]) * (x.dims[2] / 2)) * sizeof(float);
}

Kernel kernel_position_embedding_2d(CpuTarget) { return {run_position_embedding_2d, scratch}; }

}  // namespace linnet::cpu
