#include "backends/vulkan/product.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::LogitsT>();
  const Shape& w = l.shapes.weights[0];
  const int64_t k = l.shapes.in[0].channels(), rows = l.shapes.out[0].dims[0];
  const uint32_t tile = product_tile(rows);
  for (const PanelRange& range : panel_ranges(l, 0, -1)) {
    Dispatch d;
    d.shader = "logits";
    d.constants = {product_threads(l, k), code(w.dtype), 0, 0, whole_groups(k), tile};
    d.bindings = {l.in(0), {range.first, false}, l.out(0)};
    d.push = {u32(rows),
              u32(l.shapes.in[0].dims[0] - rows),
              u32(k),
              u32(w.dims[0]),
              range.first_panel,
              range.panels,
              range.first_skip,
              0,
              bits(args.scale),
              bits(args.softcap)};
    d.groups = range.panels * ceil_div(rows, tile);
    d.weight_bytes = range.bytes * ceil_div(rows, tile);
    l.add(std::move(d));
  }
  return {};
}

}  // namespace

Lower lower_logits() { return {run, nullptr}; }

}  // namespace linnet::vulkan
