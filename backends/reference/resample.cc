#include "backends/reference/kernels.h"

namespace linnet::reference {
namespace {

// An image in either layout.
struct Image {
  const float* data;
  int64_t height, width, channels;
  bool planar;
  Image(const Tensor& t, bool is_planar)
      : data(t.as()),
        height(t.dims[is_planar ? 1 : 0]),
        width(t.dims[is_planar ? 2 : 1]),
        channels(t.dims[is_planar ? 0 : 2]),
        planar(is_planar) {}
  int64_t index(int64_t i, int64_t j, int64_t c) const {
    return planar ? (c * height + i) * width + j : (i * width + j) * channels + c;
  }
  double at(int64_t i, int64_t j, int64_t c) const { return static_cast<double>(data[index(i, j, c)]); }
};

double value(const fb::ResampleT& args, const Image& x, const Image& y, int64_t i, int64_t j, int64_t c) {
  const int64_t f = args.factor;
  switch (args.kind) {
    case fb::ResampleKind::Nearest:
      return x.at(i / f, j / f, c);
    case fb::ResampleKind::Shuffle: {
      const int64_t repeat = y.channels * f * f / x.channels;
      const int64_t n =
          args.channels_last ? ((i % f) * f + j % f) * y.channels + c : (c * f + i % f) * f + j % f;
      return x.at(i / f, j / f, n / repeat);
    }
    case fb::ResampleKind::Unshuffle: {
      const int64_t group = x.channels * f * f / y.channels;
      double sum = 0;
      for (int64_t n = c * group; n < (c + 1) * group; ++n) {
        const int64_t k = args.channels_last ? n % x.channels : n / (f * f);
        const int64_t place = args.channels_last ? n / x.channels : n % (f * f);
        sum += x.at(i * f + place / f, j * f + place % f, k);
      }
      return sum / static_cast<double>(group);
    }
  }
  return 0;
}

void run(const KernelContext& c) {
  const auto& args = c.args<fb::ResampleT>();
  const Image x(c.in[0], args.planar_input), y(c.out[0], args.planar_output);
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  for (int64_t i = 0; i < y.height; ++i)
    for (int64_t j = 0; j < y.width; ++j)
      for (int64_t k = 0; k < y.channels; ++k) {
        const int64_t at = y.index(i, j, k);
        c.out[0].as()[at] = static_cast<float>(value(args, x, y, i, j, k)) + (residual ? residual[at] : 0.0f);
      }
}

}  // namespace

Kernel kernel_resample() { return {run, nullptr}; }

}  // namespace linnet::reference
