#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/convolution_2d.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "backends/cpu/convolution.h"
#include "backends/cpu/epilogue_inl.h"
#include "backends/cpu/panel_split.h"

// A convolution as a matrix product whose rows are the pixels under the kernel. With channels last, the
// pixels of one line under the kernel lie side by side, and the next output pixel's rows begin one pixel
// further: the product reads lines in place as overlapping rows (MatmulArgs::x_segments), one segment for
// each line of the kernel. Lines are copied once (padded with zeros, upsampled, quantised for block formats)
// for a few output rows at a time. Where channels do not fill whole groups of a block format, rows are
// gathered first.

#ifndef LINNET_CPU_CONVOLUTION_2D_LAYOUT  // once for all targets
#define LINNET_CPU_CONVOLUTION_2D_LAYOUT
namespace linnet::cpu {
namespace {

inline constexpr int64_t kChunk = 96;                  // output pixels of a piece of work
inline constexpr size_t kLineBytes = size_t{1} << 20;  // lines held at once, if they are not longer
inline constexpr int64_t kMostSegments = 63 * 63;

struct DenseLayout {
  int64_t groups, in_group, out_group, inputs;  // inputs: of one output
  bool quantized, gathered;
  int64_t segments, segment_inputs;
  int64_t line_pixels;
  size_t pixel_bytes, line_bytes;
  int64_t rows;   // output rows between two preparations of lines
  int64_t lines;  // source lines of so many rows
  size_t lines_bytes, gather_bytes, gated_bytes, thread_bytes;
};

DenseLayout dense_layout(const KernelContext& c) {
  const Convolution v(c);
  const DType dtype = c.weights[0].dtype;
  DenseLayout l{};
  l.groups = v.args->groups;
  l.in_group = v.channels / l.groups;
  l.out_group = v.outputs / l.groups;
  l.inputs = v.kh * v.kw * l.in_group;
  const bool half = dtype == DType::kF16 || dtype == DType::kBF16;
  const bool whole_lines = l.groups == 1;
  l.segments = whole_lines ? v.kh : v.kh * v.kw;
  l.segment_inputs = whole_lines ? v.kw * v.channels : l.in_group;
  l.gathered = is_quantized(dtype) ? l.in_group % kGroupSize != 0 : half && l.segment_inputs % 2 != 0;
  l.quantized = is_quantized(dtype) && !l.gathered;
  l.line_pixels = (v.out_width - 1) * v.stride + v.kw;
  l.pixel_bytes =
      l.quantized ? quantized_row_bytes(v.channels) : static_cast<size_t>(v.channels) * sizeof(float);
  l.line_bytes = align_up(static_cast<size_t>(l.line_pixels) * l.pixel_bytes);
  // `lines` source lines and one of zeros; as many rows as fit, but some for every thread.
  const auto lines_of = [&](int64_t rows) { return ((rows - 1) * v.stride + v.kh - 1) / v.up + 2; };
  const auto bytes_of = [&](int64_t rows) { return static_cast<size_t>(lines_of(rows) + 1) * l.line_bytes; };
  l.rows = 2 * c.threads;
  while (bytes_of(l.rows + 1) <= kLineBytes && l.rows < 256) ++l.rows;
  l.lines = lines_of(l.rows);
  l.lines_bytes = std::max(kLineBytes, bytes_of(l.rows));  // grows with the width
  if (l.gathered) {
    l.gather_bytes = align_up(static_cast<size_t>(kChunk * l.inputs) * sizeof(float));
    l.thread_bytes = l.gather_bytes + align_up(quantized_rows_bytes(kChunk, l.inputs));
  }
  if (v.args->gated) {
    l.gated_bytes = static_cast<size_t>(kChunk * v.outputs) * sizeof(float);
    l.thread_bytes += align_up(l.gated_bytes);
  }
  return l;
}

// One line of the image as the product reads it: padding, pixels (each `up` times), padding.
void prepare_line(const KernelContext& c, const Convolution& v, const DenseLayout& l, const float* source,
                  std::byte* line) {
  const auto pad = static_cast<size_t>(v.args->pad_left) * l.pixel_bytes;
  std::memset(line, 0, pad);
  std::byte* to = line + pad;
  const QuantizeFunction quantize = constants(c).matmul->quantize_rows;
  if (v.up == 1) {
    const int64_t pixels = std::min(v.source_width, l.line_pixels - v.args->pad_left);
    if (l.quantized)
      quantize(source, pixels, v.channels, v.channels, Refine::kNone, to);
    else
      std::memcpy(to, source, static_cast<size_t>(pixels) * l.pixel_bytes);
    to += static_cast<size_t>(pixels) * l.pixel_bytes;
  } else {
    for (int64_t j = 0; j < v.source_width; ++j, source += v.channels) {
      if (l.quantized)
        quantize(source, 1, v.channels, v.channels, Refine::kNone, to);
      else
        std::memcpy(to, source, l.pixel_bytes);
      for (int64_t n = 1; n < v.up; ++n)
        std::memcpy(to + static_cast<size_t>(n) * l.pixel_bytes, to, l.pixel_bytes);
      to += static_cast<size_t>(v.up) * l.pixel_bytes;
    }
  }
  std::memset(to, 0, static_cast<size_t>(line + l.line_bytes - to));
}

// Lines of some output rows, prepared.
struct Lines {
  const std::byte* data;
  const std::byte* zeros;
  int64_t first;  // source row of data
  const std::byte* at(const Convolution& v, const DenseLayout& l, int64_t line) const {
    return v.inside(line) ? data + static_cast<size_t>(line / v.up - first) * l.line_bytes : zeros;
  }
};

// Pixels [j, j + count) of output row i for panels [panel, panel_end) of `group`, to y.
void multiply(const KernelContext& c, const Convolution& v, const DenseLayout& l, const Lines& lines,
              int64_t i, int64_t j, int64_t count, int64_t group, int64_t panel, int64_t panel_end,
              std::byte* scratch, float* y, int64_t y_stride) {
  const Tensor& w = c.weights[0];
  const size_t panel_bytes = format::panel_bytes(w.dtype, l.inputs);
  const int64_t panels = format::panel_count(l.out_group);
  MatmulArgs args;
  args.weights = w.data + panel_bytes * static_cast<size_t>(group * panels + panel);
  args.n = std::min(l.out_group, panel_end * format::kPanelRows) - panel * format::kPanelRows;
  args.rows = count;
  args.y = y;
  args.y_stride = y_stride;
  const size_t from = static_cast<size_t>(j * v.stride) * l.pixel_bytes;
  const size_t in_pixel = l.quantized ? quantized_row_bytes(group * l.in_group)
                                      : static_cast<size_t>(group * l.in_group) * sizeof(float);
  const MatmulFunction matmul = constants(c).matmul->matmul[static_cast<size_t>(w.dtype)];
  if (!l.gathered) {
    const void* segments[kMostSegments];
    const int64_t across = l.segments / v.kh;
    for (int64_t s = 0; s < l.segments; ++s)
      segments[s] = lines.at(v, l, v.line(i, s / across)) + from + in_pixel +
                    static_cast<size_t>(s % across) * l.pixel_bytes;
    args.k = l.segment_inputs;
    args.segments = l.segments;
    args.x_segments = segments;
    args.x_stride = static_cast<size_t>(v.stride) * l.pixel_bytes;
    matmul(args, 0, panel_end - panel);
    return;
  }
  auto* gathered = reinterpret_cast<float*>(scratch);
  for (int64_t ky = 0; ky < v.kh; ++ky) {
    const std::byte* line = lines.at(v, l, v.line(i, ky)) + from + in_pixel;
    for (int64_t p = 0; p < count; ++p)
      for (int64_t kx = 0; kx < v.kw; ++kx)
        std::memcpy(gathered + p * l.inputs + (ky * v.kw + kx) * l.in_group,
                    line + static_cast<size_t>(p * v.stride + kx) * l.pixel_bytes,
                    static_cast<size_t>(l.in_group) * sizeof(float));
  }
  args.k = l.inputs;
  args.x = gathered;
  args.x_stride = static_cast<size_t>(l.inputs) * sizeof(float);
  if (is_quantized(w.dtype)) {
    constants(c).matmul->quantize_rows(gathered, count, l.inputs, l.inputs, Refine::kNone,
                                       scratch + l.gather_bytes);
    args.x = scratch + l.gather_bytes;
    args.x_stride = quantized_row_bytes(l.inputs);
  }
  matmul(args, 0, panel_end - panel);
}

size_t convolution_2d_scratch(const KernelContext& c) {
  if (c.weights[0].layout == fb::Layout::RowMajor) return 0;
  const DenseLayout l = dense_layout(c);
  return l.lines_bytes + static_cast<size_t>(c.threads) * l.thread_bytes;
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// A piece of work: pixels of one output row, and one tile of panels (all of them where gated).
void convolve_piece(const KernelContext& c, const Convolution& v, const DenseLayout& l, const Lines& lines,
                    int64_t i, int64_t j, int64_t group, int64_t panel, int64_t panel_end,
                    std::byte* scratch) {
  const int64_t count = j + kChunk < v.out_width ? kChunk : v.out_width - j;
  const int64_t at = (i * v.out_width + j) * v.written;
  const float* bias = c.weights.size() > 1 ? c.weights[1].as() : nullptr;
  const float* residual = c.in.size() > 1 ? c.in[1].as() : nullptr;
  Epilogue e{};
  e.y = c.out[0].as() + at;
  e.y_stride = v.written;
  if (v.args->gated) {
    auto* both = reinterpret_cast<float*>(scratch + l.thread_bytes - align_up(l.gated_bytes));
    for (int64_t g = 0; g < l.groups; ++g)
      multiply(c, v, l, lines, i, j, count, g, 0, format::panel_count(l.out_group), scratch,
               both + g * l.out_group, v.outputs);
    for (int64_t p = 0; p < count; ++p)
      for_lanes(v.written, [&](auto lanes, int64_t n) HWY_ATTR {
        lanes.store(lanes.load(both + p * v.outputs + v.written + n), e.y + p * v.written + n);
      });
    e.columns = v.written;
    e.second = both;
    e.second_stride = v.outputs;
    e.bias0 = bias ? bias + v.written : nullptr;
    e.bias1 = bias;
    e.residual = residual ? residual + at : nullptr;
  } else {
    const int64_t column = group * l.out_group + panel * 16;
    const int64_t last = panel_end * 16 < l.out_group ? panel_end * 16 : l.out_group;
    e.y += column;
    e.columns = last - panel * 16;
    e.bias0 = bias ? bias + column : nullptr;
    e.residual = residual ? residual + at + column : nullptr;
    multiply(c, v, l, lines, i, j, count, group, panel, panel_end, scratch, e.y, v.written);
  }
  apply_epilogue(v.args->activation, e, count);
}

void run_convolution_2d(const KernelContext& c) {
  const Convolution v(c);
  const DenseLayout l = dense_layout(c);
  const int64_t panels = format::panel_count(l.out_group), chunks = (v.out_width + kChunk - 1) / kChunk;
  std::byte* scratch = c.scratch + l.lines_bytes;
  std::byte* zeros = c.scratch + static_cast<size_t>(l.lines) * l.line_bytes;
  __builtin_memset(zeros, 0, l.line_bytes);
  for (int64_t row = 0; row < v.out_rows; row += l.rows) {
    const int64_t row_end = row + l.rows < v.out_rows ? row + l.rows : v.out_rows;
    // Source rows under the kernel, those inside.
    int64_t first = v.line(row, 0), last = v.line(row_end - 1, v.kh - 1);
    first = (first < 0 ? 0 : first) / v.up;
    last = (last >= v.height ? v.height - 1 : last) / v.up;
    const Lines lines{c.scratch, zeros, first};
    c.pool->parallel_for_pieces(last - first + 1, 1, [&](int, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        prepare_line(c, v, l, v.source((first + n) * v.up),
                     c.scratch + static_cast<size_t>(n) * l.line_bytes);
    });
    // Tiles of panels outermost: one tile's weights meet all rows before the next tile's come.
    int64_t tile = v.args->gated ? panels : panels < 16 ? panels : 16;
    const int64_t pieces = (row_end - row) * chunks;
    while (!v.args->gated && tile > 2 && pieces * ((panels + tile - 1) / tile) * l.groups < 4 * c.threads)
      tile = (tile + 3) / 4 * 2;
    const int64_t tiles = v.args->gated ? 1 : (panels + tile - 1) / tile * l.groups;
    const int64_t tiles_of_group = v.args->gated ? 1 : tiles / l.groups;
    c.pool->parallel_for_pieces(tiles * pieces, 1, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t t = item / pieces, piece = item % pieces, panel = t % tiles_of_group * tile;
        convolve_piece(c, v, l, lines, row + piece / chunks, piece % chunks * kChunk, t / tiles_of_group,
                       panel, panel + tile < panels ? panel + tile : panels,
                       scratch + static_cast<size_t>(thread) * l.thread_bytes);
      }
    });
  }
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static void run_either(const KernelContext& c) {
  const CpuTarget target = constants(c).target;
  if (c.weights[0].layout == fb::Layout::RowMajor) return depthwise_convolution(target)(c);
  LINNET_CHOOSE(target, run_convolution_2d)(c);
}
Kernel kernel_convolution_2d(CpuTarget) { return {run_either, convolution_2d_scratch}; }
}  // namespace linnet::cpu
#endif
