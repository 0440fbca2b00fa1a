// The panel layout of matrices: the bytes in the file are the bytes the kernels read.
//
// A weight matrix W [N outputs, K inputs] is cut into panels of 16 output rows. A panel is one contiguous
// stream, so a thread that owns a run of panels reads memory strictly forward (reading several rows side by
// side halves the bandwidth of short rows). Rows beyond N and inputs beyond K are stored as zero weights.
//
//   f32        [K][16]                       lane = row
//   f16, bf16  [ceil(K/2)][16][2]            pairs of inputs per row, for pairwise dot products
//   blocks     [ceil(K/32)] blocks:          scales and minima of 16 rows, then their codes
//
// What a block format has is in runtime/core/dtypes.def; where its parts lie, in format/panel_layout.h.
// Formats with super-blocks of 256 inputs have a head before every eight blocks (f16 scales [16], f16 minima
// [16] where there are minima, then the scales and minima of each of the eight), and blocks of codes alone;
// nvfp4 has one head before all blocks (f32 [16], the rows' scales).
//
// Scales and minima of a block:
//   f16                  scales [16], then minima [16]
//   8 bits               [16] bytes for each half of the group (or for the whole of it)
//   4 and 4 bits         [16] bytes for each half: the scale in the low bits, the minimum in the high ones
//   6 and 6 bits, a, b   (scale and minimum, or the scales of both halves) low four bits [16] bytes: a | b <<
//   4;
//                        high two [8] bytes: those of rows r and r + 8, each a | b << 2, the second shifted
//                        by 4
//   6 bits               low four bits [8] bytes: rows r and r + 8; high two [4] bytes: rows r, r + 4, r + 8,
//   r + 12
//
// Codes are vectors of 64 bytes, [16 rows][4]: 16 rows x 4 inputs are what one 4-way int8 dot product per
// 32-bit lane consumes. With q[i], i = 0..7, the codes of inputs 4 i .. 4 i + 3:
//   8 bits   8 vectors: q[i]
//   4 bits   4 vectors: q[i] | q[4 + i] << 4
//   5 bits   the low four bits as 4 bits; then one vector: the high bit of q[i] at bit i
//   6 bits   the low four bits as 4 bits; then two vectors, h: the high bits of q[2h + e] at bits 2e, and of
//            q[4 + 2h + e] at bits 4 + 2e
//   2 bits   two vectors, h: q[4h + m] at bits 2m
//   3 bits   the low two bits as 2 bits; then one vector: the high bit of q[i] at bit i
//
// A tensor of rank 3, [E, N, K] (experts), is E such matrices one after another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format/block_group.h"
#include "format/panel_layout.h"
#include "runtime/core/dtype.h"

namespace linnet::format {

// Bytes of one panel of 16 rows and K inputs.
size_t panel_bytes(DType dtype, int64_t k);
// Bytes of a matrix [n, k]. The caller has checked that n and k are positive and below 2^31.
size_t matrix_bytes(DType dtype, int64_t n, int64_t k);

// Packs `rows` (<= 16) rows of f32 values, row-major [rows, k], into one panel. Block formats round as
// quantize_row() does: a group with NaN, infinity or values beyond what its scale can hold becomes NaN as a
// whole. Where K is no multiple of 32, the last group of q4a and q5a takes a minimum that makes the missing
// inputs exact zeros.
void pack_panel(DType dtype, const float* values, int64_t rows, int64_t k, std::byte* panel,
                ScaleSearch search = ScaleSearch::kNone);

// Packs row-major groups, [rows, K / 32]. Lossless. K % 32 == 0.
void pack_panel_from_groups(DType dtype, const BlockGroup* groups, int64_t rows, int64_t k, std::byte* panel);

// Group `block` of row `row` (0..15) of a panel, taken apart.
BlockGroup panel_group(DType dtype, const std::byte* panel, int64_t row, int64_t block);

// Reads row `row` (0..15) of a panel back as k f32 values.
void unpack_panel_row(DType dtype, const std::byte* panel, int64_t row, int64_t k, float* values);

// Whether every weight of a panel (for block formats: every scale) is finite.
bool panel_is_finite(DType dtype, const std::byte* panel, int64_t k);

}  // namespace linnet::format
