#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const int64_t tokens = l.shapes.in[0].dims[0], k = l.shapes.out[0].channels();
  for (const MatrixPart& part : l.matrix(0)) {
    Dispatch d;
    d.shader = "embedding";
    d.constants = {kThreads, code(l.shapes.weights[0].dtype)};
    d.bindings = {l.in(0), {part.region, false}, l.out(0)};
    d.push = {u32(tokens), u32(k), part.first_panel, part.panels, bits(l.args<fb::EmbeddingT>().scale)};
    d.groups = ceil_div(tokens * ((k + 31) / 32), kThreads);
    l.add(std::move(d));
  }
  return {};
}

}  // namespace

Lower lower_embedding() { return {run, nullptr}; }

}  // namespace linnet::vulkan
