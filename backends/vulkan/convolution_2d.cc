#include "backends/vulkan/product.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64, kTile = 8;

bool depthwise(const fb::Convolution2dT& args, const NodeShapes& shapes) {
  const int64_t channels = shapes.in[0].dims[2], outputs = shapes.out[0].dims[2] * (args.gated ? 2 : 1);
  return args.groups > 1 && args.groups == channels && args.groups == outputs;
}

// A gate joins outputs of different panels: they meet in memory.
size_t scratch(const NodeShapes& shapes) {
  const auto& args = shapes.args<fb::Convolution2dT>();
  if (!args.gated || depthwise(args, shapes)) return 0;
  return static_cast<size_t>(shapes.out[0].elements()) * 2 * sizeof(float);
}

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::Convolution2dT>();
  const Shape &x = l.shapes.in[0], &y = l.shapes.out[0];
  const int64_t pixels = y.dims[0] * y.dims[1], written = y.dims[2], outputs = written * (args.gated ? 2 : 1);
  const uint32_t flags =
      (l.shapes.has_weight(1) ? 1u : 0u) | (l.shapes.has_in(1) ? 2u : 0u) | (args.gated ? 4u : 0u);
  const bool single = depthwise(args, l.shapes);
  const auto describe = [&](Dispatch& d, uint32_t first_panel, uint32_t panels, uint32_t skip) {
    d.constants = {kThreads, code(l.shapes.weights[0].dtype), code(args.activation), flags};
    d.push = {u32(x.dims[0]),
              u32(x.dims[1]),
              u32(x.dims[2]),
              u32(y.dims[1]),
              u32(pixels),
              u32(outputs),
              u32(written),
              u32(args.kernel_height),
              u32(args.kernel_width),
              u32(args.stride),
              u32(args.pad_top),
              u32(args.pad_left),
              u32(args.upsample),
              u32(x.dims[2] / args.groups),
              u32(outputs / args.groups),
              first_panel,
              panels,
              skip};
  };
  if (single) {
    Dispatch d;
    d.shader = "convolution_2d_depthwise";
    describe(d, 0, 0, 0);
    d.bindings = {l.in(0), l.vector(0), l.vector(1), l.in(1), l.out(0)};
    d.groups = ceil_div(pixels * written, kThreads);
    l.add(std::move(d));
    return {};
  }
  const size_t bytes = scratch(l.bounds());
  const bool tiles = args.groups == 1 && tiled(l, pixels);
  const uint32_t tile = tiles ? kTiledTokens : kTile, own = tiles ? 4 : 1;  // pixels and panels of a group
  for (const PanelRange& range : panel_ranges(l, 0, -1)) {
    Dispatch d;
    d.shader = tiles ? "convolution_2d_tiled" : "convolution_2d";
    describe(d, range.first_panel, range.panels, range.first_skip);
    if (tiles) d.constants[0] = kTiledThreads;
    d.bindings = {l.in(0),
                  {range.first, false},
                  l.vector(1),
                  l.in(1),
                  args.gated ? l.scratch(0, bytes, true) : l.out(0)};
    d.groups = ceil_div(range.panels, own) * ceil_div(pixels, tile);
    d.weight_bytes = range.bytes * ceil_div(pixels, tile);
    l.add(std::move(d));
  }
  if (!args.gated) return {};
  Dispatch gate;
  gate.shader = "convolution_2d_gate";
  gate.constants = {kThreads, code(args.activation), l.shapes.has_in(1) ? 1u : 0u};
  gate.bindings = {l.scratch(0, bytes, false), l.in(1), l.out(0)};
  gate.push = {u32(y.elements()), u32(written)};
  gate.groups = ceil_div(y.elements(), kThreads);
  l.add(std::move(gate));
  return {};
}

}  // namespace

Lower lower_convolution_2d() { return {run, scratch}; }

}  // namespace linnet::vulkan
