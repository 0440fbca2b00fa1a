#include "backends/host/embeddings.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::PositionEmbedding2dT>();
  const Tensor& x = c.in[0];
  const int64_t height = x.dims[0], width = x.dims[1], half = x.dims[2] / 2;
  std::vector<float> row(static_cast<size_t>(half)), column(static_cast<size_t>(half));
  for (int64_t i = 0; i < height; ++i) {
    host::position_channels(args, i, height, half, row.data());
    for (int64_t j = 0; j < width; ++j) {
      host::position_channels(args, j, width, half, column.data());
      const int64_t at = (i * width + j) * 2 * half;
      for (int64_t n = 0; n < half; ++n) {
        c.out[0].as()[at + n] = x.as()[at + n] + column[static_cast<size_t>(n)];
        c.out[0].as()[at + half + n] = x.as()[at + half + n] + row[static_cast<size_t>(n)];
      }
    }
  }
}

Kernel kernel_position_embedding_2d() { return {run, nullptr}; }

}  // namespace linnet::reference
