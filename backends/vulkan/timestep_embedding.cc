#include <cmath>

#include "backends/vulkan/lowering.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::TimestepEmbeddingT>();
  const Shape& y = l.shapes.out[0];
  const int64_t d = y.channels(), half = d / 2;
  const Binding frequencies = l.table(
      strf("times {} {} {}", bits(args.max_period), bits(args.shift), d), static_cast<size_t>(half),
      [&args, half](int64_t, float* out) {
        const auto slope = static_cast<float>(-std::log(static_cast<double>(args.max_period)));
        for (int64_t i = 0; i < half; ++i) {
          const float exponent = slope * static_cast<float>(i) / (static_cast<float>(half) - args.shift);
          out[i] = static_cast<float>(std::exp(static_cast<double>(exponent)));
        }
      });
  Dispatch dispatch;
  dispatch.shader = "timestep_embedding";
  dispatch.constants = {kThreads};
  dispatch.bindings = {l.in(0), frequencies, l.out(0)};
  dispatch.push = {u32(y.elements()), u32(d), args.cos_first ? 1u : 0u, bits(args.scale)};
  dispatch.groups = ceil_div(y.elements(), kThreads);
  l.add(std::move(dispatch));
  return {};
}

}  // namespace

Lower lower_timestep_embedding() { return {run, nullptr}; }

}  // namespace linnet::vulkan
