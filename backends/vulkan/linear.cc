#include "backends/vulkan/product.h"

namespace linnet::vulkan {
namespace {

// f32 and bf16 weights may be beyond the range or the precision of f16: they are multiplied in f32.
bool fits_half(DType dtype) { return dtype == DType::kF16 || is_quantized(dtype); }

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::LinearT>();
  const Shape& x = l.shapes.in[0];
  const int64_t k = x.channels(), rows = x.rows();
  const bool residual = l.shapes.has_in(1);
  for (size_t m = 0; m < (args.gated ? 1 : l.shapes.weights.size() / 2); ++m) {
    const Shape& w = l.shapes.weights[2 * m];
    const DType second = args.gated ? l.shapes.weights[2].dtype : DType::kF32;
    const uint32_t flags = (args.gated ? 1u : 0u) | (l.shapes.has_weight(2 * m + 1) ? 2u : 0u) |
                           (args.gated && l.shapes.has_weight(3) ? 4u : 0u) | (residual ? 8u : 0u) |
                           (l.shapes.has_in(2) ? 16u : 0u);
    const bool tiles = tiled(l, rows);
    const bool integers = tiles && l.device().abilities().integer_dot && is_quantized(w.dtype) &&
                          (!args.gated || is_quantized(second));
    const bool halves =
        tiles && !integers && l.halves() && fits_half(w.dtype) && (!args.gated || fits_half(second));
    const uint32_t tile = tiles ? kTiledTokens : product_tile(rows);
    // Both matrices of a gate may be cut, and differently where their types differ.
    for (const PanelRange& range : panel_ranges(l, 2 * m, args.gated ? 2 : -1)) {
      Dispatch d;
      d.shader = integers ? "linear_tiled_dot"
                 : halves ? "linear_tiled_half"
                 : tiles  ? "linear_tiled"
                          : "linear";
      d.constants = {tiles ? kTiledThreads : product_threads(l, k),
                     code(w.dtype),
                     code(second),
                     code(args.activation),
                     flags,
                     tile};
      d.bindings = {l.in(0),
                    {range.first, false},
                    l.vector(2 * m + 1),
                    args.gated ? Binding{range.second, false} : l.params(),
                    args.gated ? l.vector(3) : l.params(),
                    l.in(1),
                    l.in(2),
                    l.out(m)};
      d.push = {u32(rows),
                0,
                u32(k),
                u32(w.dims[0]),
                range.first_panel,
                range.panels,
                range.first_skip,
                range.second_skip,
                0,
                0,
                u32(args.gate_part * w.dims[0])};
      const uint32_t own = !tiles ? 1 : args.gated ? 2 : 4;  // panels of a group
      d.groups = ceil_div(range.panels, own) * ceil_div(rows, tile);
      d.weight_bytes = range.bytes * ceil_div(rows, tile);
      l.add(std::move(d));
    }
  }
  return {};
}

}  // namespace

Lower lower_linear() { return {run, nullptr}; }

}  // namespace linnet::vulkan
