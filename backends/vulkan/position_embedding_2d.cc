#include <cmath>

#include "backends/vulkan/lowering.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

// Sines, then cosines, of every place on a side of `length`.
Binding side(Lowering& l, const char* name, int64_t length, int64_t half) {
  const auto& args = l.args<fb::PositionEmbedding2dT>();
  std::string key =
      strf("side {} {} {} {}", name, args.base_size, bits(args.interpolation_scale), bits(args.max_period));
  return l.table(
      key + strf(" {}", half), static_cast<size_t>(length * half), [&args, length, half](int64_t, float* y) {
        const double step = static_cast<double>(length) / static_cast<double>(args.base_size);
        const int64_t quarter = half / 2;
        for (int64_t index = 0; index < length; ++index, y += half) {
          const float position =
              static_cast<float>(index) / static_cast<float>(step) / args.interpolation_scale;
          for (int64_t n = 0; n < quarter; ++n) {
            const double frequency = 1.0 / std::pow(static_cast<double>(args.max_period),
                                                    static_cast<double>(n) / static_cast<double>(quarter));
            const double angle = static_cast<double>(position) * frequency;
            y[n] = static_cast<float>(std::sin(angle));
            y[quarter + n] = static_cast<float>(std::cos(angle));
          }
        }
      });
}

Result<void> run(Lowering& l) {
  const Shape& x = l.shapes.in[0];
  const int64_t half = x.dims[2] / 2;
  Dispatch d;
  d.shader = "position_embedding_2d";
  d.constants = {kThreads};
  d.bindings = {l.in(0), side(l, "width", x.dims[1], half), side(l, "height", x.dims[0], half), l.out(0)};
  d.push = {u32(x.elements()), u32(x.dims[1]), u32(x.dims[2])};
  d.groups = ceil_div(x.elements(), kThreads);
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_position_embedding_2d() { return {run, nullptr}; }

}  // namespace linnet::vulkan
