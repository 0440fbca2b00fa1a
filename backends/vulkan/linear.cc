#include "backends/vulkan/product.h"

namespace linnet::vulkan {
namespace {

// f32 and bf16 weights may be beyond the range or the precision of f16: they are multiplied in f32.
bool fits_half(DType dtype) { return dtype == DType::kF16 || is_quantized(dtype); }
// In blocks, with one scale for the products of a group.
bool one_scale(DType dtype) { return scales_of_32(dtype) == 1; }

enum class Form { kPlain, kTiled, kIntegers, kHalves, kCooperative };

std::string_view shader_of(Form form) {
  switch (form) {
    case Form::kPlain:
      return "linear";
    case Form::kTiled:
      return "linear_tiled";
    case Form::kIntegers:
      return "linear_tiled_dot";
    case Form::kHalves:
      return "linear_tiled_half";
    case Form::kCooperative:
      return kCooperativeShader;
  }
  return {};
}

// Matrix units before integers before f16: what a device has of them is faster in this order.
Form form_of(const Lowering& l, int64_t rows, DType first, DType second) {
  const Abilities& can = l.device().abilities();
  if (!tiled(l, rows)) return Form::kPlain;
  const bool halves = l.halves() && fits_half(first) && fits_half(second);
  if (can.matrix_unit && halves) return Form::kCooperative;
  if (can.integer_dot && one_scale(first) && one_scale(second)) return Form::kIntegers;
  return can.fp16 && halves ? Form::kHalves : Form::kTiled;
}

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
    const Form form = form_of(l, rows, w.dtype, args.gated ? second : w.dtype);
    const bool tiles = form != Form::kPlain;
    const uint32_t whole = tiles ? 0u : whole_groups(k);
    const MatrixUnit unit = l.device().abilities().matrix_unit;
    const uint32_t tile = tiles ? kTiledTokens : product_tile(rows);
    // Both matrices of a gate may be cut, and differently where their types differ.
    for (const PanelRange& range : panel_ranges(l, 2 * m, args.gated ? 2 : -1)) {
      Dispatch d;
      d.shader = shader_of(form);
      d.constants = {tiles ? kTiledThreads : product_threads(l, k),
                     code(w.dtype),
                     code(second),
                     code(args.activation),
                     flags | whole,
                     tile};
      if (form == Form::kCooperative)
        d.constants.insert(d.constants.end(), {unit.m, unit.n, unit.k, kTiledThreads / unit.subgroup});
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
