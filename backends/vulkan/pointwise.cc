#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::PointwiseT>();
  const int64_t n = l.shapes.out[0].elements();
  const bool table = l.shapes.has_weight(0);
  Dispatch d;
  d.shader = "pointwise";
  d.constants = {kThreads, code(args.kind), code(args.activation), table ? 1u : 0u};
  d.bindings = {l.in(0), table ? l.vector(0) : l.in(1), l.out(0)};
  d.push = {u32(n), bits(args.alpha), bits(args.beta), u32(l.shapes.out[0].channels()),
            u32(l.shapes.in[0].channels())};
  d.groups = ceil_div(n, kThreads);
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_pointwise() { return {run, nullptr}; }

}  // namespace linnet::vulkan
