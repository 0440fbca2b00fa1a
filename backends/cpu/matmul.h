// Matrix products with weights in panels: y[T, N] = x[T, K] * W^T, for every weight type of format/panel.h.
//
// Block formats take activations quantised to int8 by quantize_rows(), once per input however
// many weights it meets; the others take f32 rows as they are. One call covers a range of panels, so a caller
// splits N over threads as it likes.
//
// Every output element has one order of additions: over groups of 32 inputs in order (the integer dot product
// of a group is exact), then over second terms in order, or, for f32, f16 and bf16, over inputs in order. So
// a row's result depends neither on the split into panels nor on how many other rows are computed with it,
// bit for bit.
//
// A NaN or an infinity in a row of x makes that row of y NaN or infinite, never a plausible number.
//
// Thread safety: all functions are pure but for what they write; calls on disjoint panel ranges or rows may
// run at the same time. Included by the per-instruction-set files, so it names no library type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/targets_enum.h"
#include "runtime/core/dtype.h"

namespace linnet::cpu {

// Quantised activations: a row of K inputs is ceil(K / 32) of these, inputs beyond K being zeros.
// x ~ d * q. The sums are over q of this group.
struct ActivationGroup {
  int8_t q[32];         // round to nearest even of x / d, in [-127, 127]
  float d;              // max|x| / 127; 0 for groups below 2^-100; NaN if an x is NaN or infinite
  float sum;            // d * sum(q): the factor of a minimum
  int32_t bias8;        // -8 * sum(q): the zero point of q4
  int16_t half_sum[2];  // the sums of q over both halves, for formats with a scale for each
};
static_assert(sizeof(ActivationGroup) == 48);

// Which groups of a row get a second term, the remainder x - d * q rounded to int8 in its turn. A group's
// rounding error goes with the square of its d. Rows behind a norm have a few channels far above the others,
// whose groups carry most of the error of the whole row (docs/performance.md, "Perplexity").
enum class Refine : uint8_t {
  kNone,
  kLargest,  // groups with more than 1/8 and 3 times their share of the row's sum of d^2: at most 7
};

// A quantised row: its groups and, unless kNone, a list of the refined ones (their number, then their
// indices, ascending; int32) in refined_list_bytes(), and their second terms in that order.
constexpr size_t group_count(int64_t k) { return static_cast<size_t>((k + kGroupSize - 1) / kGroupSize); }
constexpr size_t refined_capacity(int64_t k, Refine refine) {
  const size_t all = group_count(k);
  return refine == Refine::kNone ? 0 : all < 7 ? all : 7;
}
constexpr size_t refined_list_bytes(size_t capacity) { return (1 + capacity + 3) / 4 * 16; }
constexpr size_t quantized_row_bytes(int64_t k, Refine refine = Refine::kNone) {
  const size_t refined = refined_capacity(k, refine);
  return (group_count(k) + refined) * sizeof(ActivationGroup) +
         (refine == Refine::kNone ? 0 : refined_list_bytes(refined));
}
constexpr size_t quantized_rows_bytes(int64_t rows, int64_t k, Refine refine = Refine::kNone) {
  return static_cast<size_t>(rows) * quantized_row_bytes(k, refine);
}

struct MatmulArgs {
  const std::byte* weights = nullptr;  // the whole matrix's panels (panel 0 first), 16-byte aligned
  int64_t n = 0;                       // outputs; the last panel writes only those below n
  int64_t k = 0;                       // inputs; of one segment, where there are several
  const void* x = nullptr;  // f32 rows, or quantised rows for a block format; 4-byte aligned, never padded
  size_t x_stride = 0;      // bytes from one row of x to the next (quantized_row_bytes() when quantised)
  Refine refine = Refine::kNone;  // what quantised rows were made with; kNone where there are segments
  int64_t rows = 0;               // T; 1 is decode
  float* y = nullptr;             // y[0, 0]: panel p writes columns 16 p .. 16 p + 15 of each row
  int64_t y_stride = 0;           // floats from one row of y to the next; not used when rows is 1
  // A row of x in pieces: segment s of row r is at x_segments[s] + r * x_stride (x is not read). Rows may
  // overlap: a convolution's are the pixels under its kernel, a segment for each line. With block formats k
  // is then a multiple of 32, with f16 and bf16 even.
  int64_t segments = 1;
  const void* const* x_segments = nullptr;
};

// Computes outputs [16 * panel_begin, min(n, 16 * panel_end)) of every row. For rows > 1, ranges of an even
// number of panels that start on an even panel are fastest.
using MatmulFunction = void (*)(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end);

// Quantises `rows` rows of k floats; `x_stride` floats from row to row; `out` takes
// quantized_rows_bytes(rows, k, refine), 16-byte aligned. Rows are independent: threads may share the work.
using QuantizeFunction = void (*)(const float* x, int64_t rows, int64_t k, int64_t x_stride, Refine refine,
                                  std::byte* out);

// Loops at a limit of the machine, for stating measured speeds as shares of it. Null on kPortable.
struct Probes {
  // Reads `bytes` once, forward; the result only keeps the loads alive.
  uint64_t (*read)(const std::byte* data, size_t bytes) = nullptr;
  // `iterations` rounds of independent int8 dot products (of the kind the q8 kernel uses) or f32 fused
  // multiply-adds in registers; returns the operations done, a multiplication and an addition counting two.
  double (*int8)(int64_t iterations) = nullptr;
  double (*f32)(int64_t iterations) = nullptr;
};

// The kernels of one instruction set.
struct MatmulKernels {
  CpuTarget target{};
  QuantizeFunction quantize_rows = nullptr;
  // bf16 weights meet rows rounded to bf16, two products an operation; elsewhere rows stay f32.
  bool rounds_to_bf16 = false;
  MatmulFunction matmul[kDTypeCount] = {};  // by DType; null for kI32
  Probes probes;
};

// `target` must be one of supported_targets().
const MatmulKernels& matmul_kernels(CpuTarget target);

}  // namespace linnet::cpu
