// The panel layout of matrices: the bytes in the file are the bytes the kernels read.
//
// A weight matrix W [N outputs, K inputs] is cut into panels of 16 output rows. A panel is one contiguous
// stream, so a thread that owns a run of panels reads memory strictly forward (reading several rows side by
// side halves the bandwidth of short rows). Rows beyond N and inputs beyond K are stored as zero weights.
//
//   f32        [K][16]                       lane = row
//   f16, bf16  [ceil(K/2)][16][2]            pairs of inputs per row, for pairwise dot products
//   blocks     [ceil(K/32)] blocks:          scales [16], minima [16] where the type has them, codes
//
// What a block holds is in runtime/core/dtypes.def (q8: f16 scales, codes of 8 bits; q4: f16 scales, codes of
// 4; q4a: f16 scales, f16 minima, codes of 4), where its parts lie in format/panel_layout.h.
//
// Codes of 8 bits are q[8][16][4], and q[i][r][j] is input 4*i+j of row r: 64 bytes are 16 rows x 4 inputs,
// what one 4-way int8 dot product per 32-bit lane consumes. Codes of 4 bits are 4 vectors of 64 bytes: byte
// [i][r][j] holds input 4*i+j of row r in its low half and input 16+4*i+j in its high half.
//
// A tensor of rank 3, [E, N, K] (experts), is E such matrices one after another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format/panel_layout.h"
#include "runtime/core/dtype.h"

namespace linnet::format {

// Bytes of one panel of 16 rows and K inputs.
size_t panel_bytes(DType dtype, int64_t k);
// Bytes of a matrix [n, k]. The caller has checked that n and k are positive and below 2^31.
size_t matrix_bytes(DType dtype, int64_t n, int64_t k);

// How the scale of a q8 group is chosen: the largest magnitude at 127, or the one of 17 that leaves the least
// squared error. That halves the error of weights that lie on a coarser grid already and takes a fifth of
// others', for ten times the time.
enum class ScaleSearch : uint8_t { kNone, kFitted };

// Packs `rows` (<= 16) rows of f32 values, row-major [rows, k], into one panel. Quantised types use
// round-to-nearest with the scale from the group's extreme value (q4: the signed extreme maps to -8, as
// GGUF's Q4_0; q4a: minimum and range, as Q4_1; q8: maximum magnitude / 127 or as `search` says). A group
// with NaN, infinity or values beyond what its f16 scale can hold becomes NaN as a whole, never some
// plausible number. Where K is no multiple of 32, the last group of q4a takes m = -8d, so that the missing
// inputs are exact zeros.
void pack_panel(DType dtype, const float* values, int64_t rows, int64_t k, std::byte* panel,
                ScaleSearch search = ScaleSearch::kNone);

// Packs row-major quantised rows, each [K/32] groups as GGUF stores them (scale, minimum where there is one,
// codes; of 4 bits two in a byte, the low half inputs 0..15). Lossless. K % 32 == 0.
void pack_panel_from_groups(DType dtype, const std::byte* groups, int64_t rows, int64_t k, std::byte* panel);

// Reads row `row` (0..15) of a panel back as k f32 values.
void unpack_panel_row(DType dtype, const std::byte* panel, int64_t row, int64_t k, float* values);

// Whether every weight of a panel (for block formats: every scale) is finite.
bool panel_is_finite(DType dtype, const std::byte* panel, int64_t k);

}  // namespace linnet::format
