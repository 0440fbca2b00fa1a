// Where the parts of a block of a panel lie (format/panel.h), from the traits in runtime/core/dtype.h.
// Included by the files that each instruction set's flags compile: constant expressions only, no library.
#pragma once

#include "runtime/core/dtype.h"

namespace linnet::format {

inline constexpr int64_t kPanelRows = 16;
constexpr int64_t panel_count(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// Bytes of one panel block: one group (32 inputs) of 16 rows for quantised types.
constexpr size_t panel_block_bytes(DType dtype) {
  return group_bytes(dtype) * static_cast<size_t>(kPanelRows);
}

// Offsets within a block of a quantised type, in bytes: the scales of all rows, their minima, their codes.
struct PanelBlock {
  size_t scales, minima, codes, bytes;
};
constexpr PanelBlock panel_block(DType dtype) {
  constexpr auto kRows = static_cast<size_t>(kPanelRows);
  const size_t minima = scale_bytes(dtype) * kRows, codes = minima + minimum_bytes(dtype) * kRows;
  return {0, minima, codes, panel_block_bytes(dtype)};
}

}  // namespace linnet::format
