#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/convolution_depthwise.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/convolution.h"
#include "backends/cpu/epilogue_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Channels whose filters stay in the first cache, pixels between two epilogues, and pixels that share a load
// of the filter.
inline constexpr int64_t kChannels = 256, kPixels = 8;
inline constexpr int kShared = 4;

// Where an output row finds its lines and filters.
struct Lines {
  const float* const* source;  // kh of them; null: outside the image
  const float* weights;        // [kh, kw, channels]
  const float* bias;           // null: none
};

// Sums of `Pixels` neighbouring output pixels from column j on, channels [first, first + count), filter
// columns [left, right). Bias first, then tap after tap.
template <int Pixels>
HWY_INLINE void sum_taps(const Convolution& v, const Lines& l, int64_t j, int64_t left, int64_t right,
                         int64_t first, int64_t count, float* y, int64_t y_stride) {
  const int64_t column = j * v.stride - v.args->pad_left;
  for_lanes(count, [&](auto lanes, int64_t i) HWY_ATTR {
    const int64_t channel = first + i;
    FloatVec sum[Pixels];
    const auto start = l.bias ? lanes.load(l.bias + channel) : hn::Zero(FloatTag());
    LINNET_UNROLL for (int p = 0; p < Pixels; ++p) sum[p] = start;
    for (int64_t ky = 0; ky < v.kh; ++ky) {
      if (!l.source[ky]) continue;
      for (int64_t kx = left; kx < right; ++kx) {
        const auto weight = lanes.load(l.weights + (ky * v.kw + kx) * v.channels + channel);
        const float* from =
            l.source[ky] + (v.up == 1 ? column + kx : (column + kx) / v.up) * v.channels + channel;
        LINNET_UNROLL for (int p = 0; p < Pixels; ++p) sum[p] =
            hn::MulAdd(weight, lanes.load(from + p * v.stride * v.channels), sum[p]);
      }
    }
    LINNET_UNROLL for (int p = 0; p < Pixels; ++p) lanes.store(sum[p], y + p * y_stride + i);
  });
}

// Output pixels [begin, end) of a row, at most kPixels.
void sum_pixels(const Convolution& v, const Lines& l, int64_t begin, int64_t end, int64_t first,
                int64_t count, float* y, int64_t y_stride) {
  for (int64_t j = begin; j < end;) {
    const int64_t column = j * v.stride - v.args->pad_left;
    const int64_t last = column + (kShared - 1) * v.stride + v.kw;
    float* to = y + (j - begin) * y_stride;
    if (v.up == 1 && j + kShared <= end && column >= 0 && last <= v.width) {
      sum_taps<kShared>(v, l, j, 0, v.kw, first, count, to, y_stride);
      j += kShared;
      continue;
    }
    const int64_t left = column < 0 ? -column : 0;
    const int64_t right = column + v.kw > v.width ? v.width - column : v.kw;
    sum_taps<1>(v, l, j, left, right, first, count, to, y_stride);
    ++j;
  }
}

void run_depthwise(const KernelContext& c) {
  const Convolution v(c);
  const float* bias = c.weights.size() > 1 ? c.weights[1].as() : nullptr;
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  const int64_t blocks = (v.written + kChannels - 1) / kChannels;
  const int64_t grain = 32768 / ((v.out_width + 1) * kChannels * v.kh * v.kw) + 1;
  c.pool->parallel_for_pieces(v.out_rows * blocks, grain, [&](int, int64_t begin, int64_t end) HWY_ATTR {
    HWY_ALIGN float second[kPixels * kChannels];
    const float* source[64];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t i = item / blocks, first = item % blocks * kChannels;
      const int64_t count = first + kChannels < v.written ? kChannels : v.written - first;
      for (int64_t ky = 0; ky < v.kh; ++ky) {
        const int64_t line = v.line(i, ky);
        source[ky] = v.inside(line) ? v.source(line) : nullptr;
      }
      const Lines lines{source, c.weights[0].as(), bias};
      for (int64_t j = 0; j < v.out_width; j += kPixels) {
        const int64_t to = j + kPixels < v.out_width ? j + kPixels : v.out_width;
        const int64_t at = (i * v.out_width + j) * v.written + first;
        Epilogue e{};
        e.y = c.out[0].as() + at;
        e.y_stride = v.written;
        e.columns = count;
        e.residual = residual ? residual + at : nullptr;
        if (v.args->gated) {  // the second half gates the first
          sum_pixels(v, lines, j, to, first, count, second, kChannels);
          e.second = second;
          e.second_stride = kChannels;
        }
        sum_pixels(v, lines, j, to, first + (v.args->gated ? v.written : 0), count, e.y, e.y_stride);
        apply_epilogue(v.args->activation, e, to - j);
      }
    }
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
ConvolutionFn depthwise_convolution(CpuTarget target) { return LINNET_CHOOSE(target, run_depthwise); }
}  // namespace linnet::cpu
#endif
