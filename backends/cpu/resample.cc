#include <algorithm>

#include "backends/cpu/kernels.h"

namespace linnet::cpu {
namespace {

// Where pixel (i, j) and channel c of an image in either layout are.
struct Image {
  int64_t height, width, channels, row, pixel, channel;
};
Image image(const Tensor& t, bool planar) {
  if (planar) return {t.dims[1], t.dims[2], t.dims[0], t.dims[2], 1, t.dims[1] * t.dims[2]};
  return {t.dims[0], t.dims[1], t.dims[2], t.dims[1] * t.dims[2], t.dims[2], 1};
}

// What channel c of an output pixel reads: inputs at table[place][c * count ..], relative to a base pixel;
// `place` is the output pixel's place within its factor x factor block, where that matters.
struct Sources {
  int64_t places, count;  // count inputs are averaged
};
Sources sources(const fb::ResampleT& args, const Image& x, const Image& y) {
  const int64_t area = int64_t{args.factor} * args.factor;
  switch (args.kind) {
    case fb::ResampleKind::Nearest:
      return {1, 1};
    case fb::ResampleKind::Shuffle:
      return {area, 1};
    case fb::ResampleKind::Unshuffle:
      return {1, x.channels * area / y.channels};
  }
  return {1, 1};
}

void fill_table(const fb::ResampleT& args, const Image& x, const Image& y, int64_t* table) {
  const int64_t f = args.factor, area = f * f;
  switch (args.kind) {
    case fb::ResampleKind::Nearest:
      for (int64_t c = 0; c < y.channels; ++c) table[c] = c * x.channel;
      return;
    case fb::ResampleKind::Shuffle: {
      const int64_t repeat = y.channels * area / x.channels;
      for (int64_t place = 0; place < area; ++place)
        for (int64_t c = 0; c < y.channels; ++c)
          table[place * y.channels + c] =
              (args.channels_last ? place * y.channels + c : c * area + place) / repeat * x.channel;
      return;
    }
    case fb::ResampleKind::Unshuffle:
      for (int64_t n = 0; n < x.channels * area; ++n) {
        const int64_t channel = args.channels_last ? n % x.channels : n / area;
        const int64_t place = args.channels_last ? n / x.channels : n % area;
        table[n] = place / f * x.row + place % f * x.pixel + channel * x.channel;
      }
      return;
  }
}

void run_resample(const KernelContext& c) {
  const auto& args = c.args<fb::ResampleT>();
  const Image x = image(c.in[0], args.planar_input), y = image(c.out[0], args.planar_output);
  const Sources s = sources(args, x, y);
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  auto* table = reinterpret_cast<int64_t*>(c.scratch);
  fill_table(args, x, y, table);
  const bool down = args.kind == fb::ResampleKind::Unshuffle;
  const int64_t f = args.factor, in_step = down ? f : 1, out_step = down ? 1 : f;
  c.pool->parallel_for(y.height, 16384 / std::max<int64_t>(y.width * y.channels * s.count, 1) + 1,
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; ++i) {
                           for (int64_t j = 0; j < y.width; ++j) {
                             const float* from = c.in[0].as() + i / out_step * in_step * x.row +
                                                 j / out_step * in_step * x.pixel;
                             const int64_t at = i * y.row + j * y.pixel;
                             float* to = c.out[0].as() + at;
                             const int64_t* own =
                                 table + (s.places > 1 ? (i % f) * f + j % f : 0) * y.channels;
                             if (s.count == 1) {
                               for (int64_t k = 0; k < y.channels; ++k) to[k * y.channel] = from[own[k]];
                             } else {
                               for (int64_t k = 0; k < y.channels; ++k, own += s.count) {
                                 float sum = 0;
                                 for (int64_t n = 0; n < s.count; ++n) sum += from[own[n]];
                                 to[k * y.channel] = sum / static_cast<float>(s.count);
                               }
                             }
                             if (residual)
                               for (int64_t k = 0; k < y.channels; ++k)
                                 to[k * y.channel] += residual[at + k * y.channel];
                           }
                         }
                       });
}

size_t scratch(const KernelContext& c) {
  const auto& args = c.args<fb::ResampleT>();
  const Image x = image(c.in[0], args.planar_input), y = image(c.out[0], args.planar_output);
  const Sources s = sources(args, x, y);
  return static_cast<size_t>(s.places * s.count * y.channels) * sizeof(int64_t);
}

}  // namespace

Kernel kernel_resample(CpuTarget) { return {run_resample, scratch}; }

}  // namespace linnet::cpu
