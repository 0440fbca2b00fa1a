#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;
constexpr size_t kOutputs = 6;

Result<void> run(Lowering& l) {
  const Shape& x = l.shapes.in[0];
  const size_t outputs = l.shapes.out.size();
  for (size_t first = 0; first < outputs; first += kOutputs) {
    const size_t count = std::min(kOutputs, outputs - first);
    const bool last = first + count == outputs;
    Dispatch d;
    d.shader = "token_shift";
    d.constants = {kThreads, static_cast<uint32_t>(count), last ? 1u : 0u};
    d.bindings = {l.in(0), l.state(0, last)};
    for (size_t i = 0; i < kOutputs; ++i) {
      d.bindings.push_back(i < count ? l.vector(first + i) : l.params());
      d.bindings.push_back(i < count ? l.out(first + i) : l.nowhere());
    }
    d.push = {u32(x.dims[0]), u32(x.channels())};
    d.groups = x.dims[0] > 0 ? ceil_div(x.channels(), kThreads) : 0;
    l.add(std::move(d));
  }
  return {};
}

}  // namespace

Lower lower_token_shift() { return {run, nullptr}; }

}  // namespace linnet::vulkan
