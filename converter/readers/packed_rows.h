// The rows of packed matrices (packed_weights.h), one class for each way of packing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "converter/architectures/row_source.h"
#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// Four-bit floats: codes of two values in a byte, the even one in the low half, rows of K / 2 bytes; a scale
// of 8 bits for each `group` values, rows of at least K / group bytes.
struct Fp4Matrix {
  const TensorInfo *codes = nullptr, *scales = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t group = 32;        // 32: scales are powers of two (MXFP4); 16: floats (NVFP4)
  int64_t scale_stride = 0;  // bytes from one row's scales to the next
  float row_scale = 1;
};
Rows fp4_rows(const Checkpoint& checkpoint, const std::string& name, const Fp4Matrix& matrix);

// FP-Quant's: the same, and every `size` values of a row turned by the matrix whose signs are `hadamard`
// [size, size]: w = wh H^T with H = hadamard / sqrt(size); divided by `global`.
Rows turned_rows(Rows source, std::vector<float> hadamard, int64_t size, float global);

// Integers: value = scale (code - zero), a scale (and a zero) for each group of inputs.
struct IntegerMatrix {
  // Where the codes lie: a word of 32 bits has those of inputs (down a column: GPTQ; along a row:
  // compressed-tensors) or of outputs in AWQ's order.
  enum class Packing { kInputsDown, kInputsAlong, kOutputsInTurn };
  Packing packing = Packing::kInputsDown;
  const TensorInfo *codes = nullptr, *scales = nullptr, *zeros = nullptr;  // zeros: packed, or null
  bool scales_by_row = false;  // [rows, groups] instead of [groups, rows]
  int64_t rows = 0, columns = 0, bits = 4, groups = 1;
  int zero = 8;                   // without `zeros`
  int zero_more = 0;              // what a stored zero lacks (GPTQ: 1)
  std::vector<int32_t> group_of;  // for each input
};
// Error: kInvalidFile for zeros or scales that cannot be read.
Result<Rows> integer_rows(const Checkpoint& checkpoint, const std::string& name, IntegerMatrix matrix);

// bitsandbytes' 4 bits: the high half of a byte first, a table of 16 values, a scale for each `block` values
// of the whole matrix.
struct TableMatrix {
  const TensorInfo* codes = nullptr;
  int64_t rows = 0, columns = 0, block = 64;
  std::vector<float> table, scales;
};
Rows table_rows(const Checkpoint& checkpoint, const std::string& name, TableMatrix matrix);

}  // namespace linnet::convert
