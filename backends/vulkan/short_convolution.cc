#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::ShortConvolutionT>();
  for (size_t i = 0; i < l.shapes.in.size(); ++i) {
    const Shape& x = l.shapes.in[i];
    Dispatch d;
    d.shader = "short_convolution";
    d.constants = {kThreads, u32(args.kernel), code(args.activation),
                   l.shapes.has_weight(2 * i + 1) ? 1u : 0u};
    d.bindings = {l.in(i), l.vector(2 * i), l.vector(2 * i + 1), l.state(i), l.out(i)};
    d.push = {u32(x.dims[0]), u32(x.channels())};
    d.groups = x.dims[0] > 0 ? ceil_div(x.channels(), kThreads) : 0;
    l.add(std::move(d));
  }
  return {};
}

}  // namespace

Lower lower_short_convolution() { return {run, nullptr}; }

}  // namespace linnet::vulkan
