// Where the parts of a panel lie (format/panel.h), from the traits in runtime/core/dtype.h.
// Included by the files that each instruction set's flags compile: constant expressions only, no library.
#pragma once

#include "runtime/core/dtype.h"

namespace linnet::format {

inline constexpr int64_t kPanelRows = 16;
constexpr int64_t panel_count(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// A format with super-blocks has a head before every eight blocks: the f16 scales of 16 rows, then, where it
// has minima, their f16, then the groups' own factors, block after block. One with a scale for each row
// (FactorKind::kE4M3) has one head before all blocks: f32 of 16 rows.
inline constexpr size_t kBlocksOfSuper = static_cast<size_t>(kSuperBlock / kGroupSize);
constexpr bool has_row_scales(DType dtype) {
  return is_quantized(dtype) && info_of(dtype).scale == FactorKind::kE4M3;
}
// Bytes of the scales and minima of one block's 16 rows, besides the super-blocks' f16.
constexpr size_t panel_factor_bytes(DType dtype) {
  return factors_bits(dtype) * static_cast<size_t>(kPanelRows) / 8;
}
// Where the factors of the first block begin in a head.
constexpr size_t head_halves_bytes(DType dtype) {
  return super_halves(dtype) * 2 * static_cast<size_t>(kPanelRows);
}
constexpr size_t panel_head_bytes(DType dtype) {
  if (has_row_scales(dtype)) return 4 * static_cast<size_t>(kPanelRows);
  return super_halves(dtype) == 0 ? 0 : head_halves_bytes(dtype) + kBlocksOfSuper * panel_factor_bytes(dtype);
}

// Offsets within a block (32 inputs of 16 rows), in bytes: f16 scales, minima and codes; of a format with
// super-blocks a block has codes alone.
struct PanelBlock {
  size_t minima, codes, bytes;
};
constexpr PanelBlock panel_block(DType dtype) {
  constexpr auto kRows = static_cast<size_t>(kPanelRows);
  const size_t codes = super_halves(dtype) == 0 ? panel_factor_bytes(dtype) : 0;
  return {2 * kRows, codes, codes + info_of(dtype).bits * static_cast<size_t>(kGroupSize) * kRows / 8};
}
constexpr size_t panel_block_bytes(DType dtype) { return panel_block(dtype).bytes; }

// Where in a panel: the head that counts for block `block`, the block's scales and minima, the block itself.
constexpr size_t head_offset(DType dtype, size_t block) {
  if (has_row_scales(dtype)) return 0;
  return block / kBlocksOfSuper * (kBlocksOfSuper * panel_block_bytes(dtype) + panel_head_bytes(dtype));
}
constexpr size_t block_offset(DType dtype, size_t block) {
  const size_t heads = has_row_scales(dtype) ? 1 : block / kBlocksOfSuper + 1;
  return block * panel_block_bytes(dtype) + heads * panel_head_bytes(dtype);
}
constexpr size_t factors_offset(DType dtype, size_t block) {
  if (super_halves(dtype) == 0) return block_offset(dtype, block);
  return head_offset(dtype, block) + head_halves_bytes(dtype) +
         block % kBlocksOfSuper * panel_factor_bytes(dtype);
}
// Bytes of a panel of `blocks` blocks.
constexpr size_t blocks_bytes(DType dtype, size_t blocks) {
  return blocks == 0 ? 0 : block_offset(dtype, blocks - 1) + panel_block_bytes(dtype);
}

}  // namespace linnet::format
