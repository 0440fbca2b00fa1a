#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::ResampleT>();
  const Shape &x = l.shapes.in[0], &y = l.shapes.out[0];
  const auto size = [](const Shape& s, bool planar, size_t i) {
    return u32(s.dims[planar ? (i + 1) % 3 : i]);
  };
  const bool px = args.planar_input, py = args.planar_output;
  Dispatch d;
  d.shader = "resample";
  const uint32_t flags =
      (args.channels_last ? 1u : 0u) | (px ? 2u : 0u) | (py ? 4u : 0u) | (l.shapes.has_in(1) ? 8u : 0u);
  d.constants = {kThreads, code(args.kind), flags};
  d.bindings = {l.in(0), l.in(1), l.out(0)};
  d.push = {u32(y.elements()), u32(args.factor), size(x, px, 0), size(x, px, 1),
            size(x, px, 2),    size(y, py, 0),   size(y, py, 1), size(y, py, 2)};
  d.groups = ceil_div(y.elements(), kThreads);
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_resample() { return {run, nullptr}; }

}  // namespace linnet::vulkan
