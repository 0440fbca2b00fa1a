#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::NormT>();
  const Shape& x = l.shapes.in[0];
  const bool image = args.kind == fb::NormKind::Group;
  const int64_t d = x.channels(), size = args.group > 0 ? args.group : d, per_row = d / size;
  const auto groups_of = [&](size_t i) {
    return l.shapes.has_weight(i) ? l.shapes.weights[i].dims[0] / size : 1;
  };
  const uint32_t flags = (l.shapes.has_weight(0) ? 1u : 0u) | (l.shapes.has_weight(1) ? 2u : 0u) |
                         (l.shapes.has_in(1) ? 4u : 0u) | (args.gate_first ? 8u : 0u) |
                         (args.scale_part >= 0 ? 16u : 0u) | (args.shift_part >= 0 ? 32u : 0u) |
                         (l.shapes.has_in(3) ? 64u : 0u);
  Dispatch dispatch;
  dispatch.shader = image ? "norm_image" : "norm";
  const uint32_t threads =
      std::min(threads_for(image ? size * x.rows() : size, 256), l.device().most_threads());
  dispatch.constants = {threads, code(args.kind), code(args.gate_activation), flags, code(args.activation)};
  dispatch.bindings = {l.in(0), l.in(1), l.vector(0), l.vector(1), l.in(2), l.in(3), l.out(0)};
  dispatch.push = {u32(size),
                   u32(per_row),
                   u32(groups_of(0)),
                   u32(groups_of(1)),
                   bits(args.epsilon),
                   bits(args.weight_offset),
                   u32(args.scale_part * d),
                   u32(args.shift_part * d),
                   u32(x.rows())};
  dispatch.groups = static_cast<uint64_t>(image ? per_row : x.rows() * per_row);
  l.add(std::move(dispatch));
  return {};
}

}  // namespace

Lower lower_norm() { return {run, nullptr}; }

}  // namespace linnet::vulkan
