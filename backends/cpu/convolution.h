// What the two ways of a 2-D convolution share: its sizes.
#pragma once

#include "backends/cpu/kernels.h"

namespace linnet::cpu {

struct Convolution {
  const fb::Convolution2dT* args;
  int64_t kh, kw, stride, up;
  int64_t channels, outputs, written;  // written: outputs, or half of them where gated
  int64_t height, width;               // of the image that the kernel slides over, upsampled
  int64_t source_width, out_width;
  const float* x;  // row `first` of the source image
  int64_t first, out_first, out_rows;

  explicit Convolution(const KernelContext& c)
      : args(&c.args<fb::Convolution2dT>()),
        kh(args->kernel_height),
        kw(args->kernel_width),
        stride(args->stride),
        up(args->upsample),
        channels(c.in[0].dims[2]),
        outputs(c.out[0].dims[2] * (args->gated ? 2 : 1)),
        written(c.out[0].dims[2]),
        height((c.window.in_height > 0 ? c.window.in_height : c.in[0].dims[0]) * up),
        width(c.in[0].dims[1] * up),
        source_width(c.in[0].dims[1]),
        out_width(c.out[0].dims[1]),
        x(c.in[0].as()),
        first(c.window.in_first),
        out_first(c.window.out_first),
        out_rows(c.out[0].dims[0]) {}

  // Line ky under the kernel of output row i (of this window), as a row of the upsampled image; it may be
  // outside.
  int64_t line(int64_t i, int64_t ky) const { return (i + out_first) * stride - args->pad_top + ky; }
  bool inside(int64_t line) const { return line >= 0 && line < height; }
  // Source pixels of a line that is inside.
  const float* source(int64_t line) const { return x + (line / up - first) * source_width * channels; }
};

// Depthwise: one filter for every channel. The file convolution_depthwise.cc.
using ConvolutionFn = void (*)(const KernelContext&);
ConvolutionFn depthwise_convolution(CpuTarget target);

}  // namespace linnet::cpu
