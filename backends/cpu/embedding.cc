#include "backends/cpu/kernels.h"
#include "format/panel.h"

namespace linnet::cpu {

// A few thousand values per token, once per run: unpacking is not worth vector code.
static void run(const KernelContext& c) {
  const auto& args = c.args<fb::EmbeddingT>();
  const Tensor& table = c.weights[0];
  const auto* ids = c.in[0].as<int32_t>();
  const int64_t d = c.out[0].channels();
  const size_t panel_bytes = format::panel_bytes(table.dtype, d);
  c.pool->parallel_for(c.in[0].dims[0], 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* y = c.out[0].as() + t * d;
      const int64_t id = ids[t];  // the session has checked the range of ids
      const std::byte* panel = table.data + panel_bytes * static_cast<size_t>(id / format::kPanelRows);
      format::unpack_panel_row(table.dtype, panel, id % format::kPanelRows, d, y);
      if (args.scale == 1.0f) continue;
      for (int64_t i = 0; i < d; ++i) y[i] *= args.scale;
    }
  });
}

Kernel kernel_embedding(CpuTarget) { return {run, nullptr}; }

}  // namespace linnet::cpu
