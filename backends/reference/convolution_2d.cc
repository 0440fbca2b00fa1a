#include "backends/reference/kernels.h"

namespace linnet::reference {

static void run(const KernelContext& c) {
  const auto& args = c.args<fb::Convolution2dT>();
  const Tensor &x = c.in[0], &w = c.weights[0], &out = c.out[0];
  const float* bias = c.weights.size() > 1 ? c.weights[1].as() : nullptr;
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const int64_t kh = args.kernel_height, kw = args.kernel_width, stride = args.stride, up = args.upsample;
  const int64_t height = (c.window.in_height > 0 ? c.window.in_height : x.dims[0]) * up,
                width = x.dims[1] * up, channels = x.dims[2];
  const int64_t written = out.dims[2], outputs = args.gated ? 2 * written : written;
  const int64_t groups = args.groups, in_group = channels / groups, out_group = outputs / groups;
  const bool depthwise = w.layout == fb::Layout::RowMajor;
  // As rows [outputs, (ky, kx, c)].
  std::vector<float> rows(static_cast<size_t>(outputs * kh * kw * in_group));
  for (int64_t o = 0; o < outputs; ++o) {
    float* row = &rows[static_cast<size_t>(o * kh * kw * in_group)];
    if (depthwise) {
      for (int64_t i = 0; i < kh * kw; ++i) row[i] = w.as()[i * channels + o];
      continue;
    }
    Tensor matrix = w;
    if (w.rank == 3) {
      matrix.rank = 2;
      matrix.dims[0] = w.dims[1];
      matrix.dims[1] = w.dims[2];
      matrix.data += format::matrix_bytes(w.dtype, w.dims[1], w.dims[2]) * static_cast<size_t>(o / out_group);
    }
    weight_row(matrix, o % out_group, row);
  }
  std::vector<float> pixel(static_cast<size_t>(outputs));
  for (int64_t i = 0; i < out.dims[0]; ++i) {
    for (int64_t j = 0; j < out.dims[1]; ++j) {
      for (int64_t o = 0; o < outputs; ++o) {
        double sum = bias ? static_cast<double>(bias[o]) : 0.0;
        const float* row = &rows[static_cast<size_t>(o * kh * kw * in_group)];
        for (int64_t ky = 0; ky < kh; ++ky) {
          for (int64_t kx = 0; kx < kw; ++kx) {
            const int64_t y = (i + c.window.out_first) * stride - args.pad_top + ky,
                          z = j * stride - args.pad_left + kx;
            if (y < 0 || y >= height || z < 0 || z >= width) continue;
            const float* from = x.as() + ((y / up - c.window.in_first) * x.dims[1] + z / up) * channels +
                                o / out_group * in_group;
            sum += dot(from, row + (ky * kw + kx) * in_group, in_group);
          }
        }
        pixel[static_cast<size_t>(o)] = static_cast<float>(sum);
      }
      const int64_t at = (i * out.dims[1] + j) * written;
      for (int64_t o = 0; o < written; ++o) {
        const auto n = static_cast<size_t>(o);
        float y = args.gated
                      ? pixel[n] * host::activate(args.activation, pixel[n + static_cast<size_t>(written)])
                      : host::activate(args.activation, pixel[n]);
        if (residual) y += residual[at + o];
        out.as()[at + o] = y;
      }
    }
  }
}

Kernel kernel_convolution_2d() { return {run, nullptr}; }

}  // namespace linnet::reference
