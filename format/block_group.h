// One row's group of 32 values in a block format, taken apart: what every reader of quantised checkpoints
// delivers, what the quantiser makes, and what format/panel.h packs. Whatever a format is, its numbers mean
// here and nowhere else what they mean.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/core/dtype.h"

namespace linnet::format {

struct BlockGroup {
  // What multiplies the scales of a whole row (FactorKind::kE4M3); 1 for others.
  float row_scale = 1;
  // f16 bits: the group's own (FactorKind::kF16) or its super-block's, the same in all eight groups of it.
  uint16_t scale = 0, minimum = 0;
  // For each half of the group (the first for both, where a group has one scale): the bits of its own factor.
  std::array<uint8_t, 2> factor{}, least{};
  std::array<uint8_t, kGroupSize> codes{};
};
static_assert(sizeof(BlockGroup) == 44);

// The scale, and the minimum (0 where there are none), of half `half` of a group: exact in f32 for every
// format.
float scale_of(DType dtype, const BlockGroup& group, size_t half);
float minimum_of(DType dtype, const BlockGroup& group, size_t half);
// What a code stands for, in steps of the scale.
float step_of(DType dtype, uint8_t code);

// The 32 values, as the format's own decoder gives them (one product, and one sum where there is a minimum).
void values_of(DType dtype, const BlockGroup& group, float* values);

// A group of zeros.
BlockGroup zero_group(DType dtype);

// Whether scale and minimum are finite numbers.
bool is_finite(DType dtype, const BlockGroup& group);

// How far the scales of q8 are searched for: the largest magnitude at 127, or the one of 17 that leaves the
// least squared error. That halves the error of weights that lie on a coarser grid already and takes a fifth
// of others', for ten times the time. Other formats always search.
enum class ScaleSearch : uint8_t { kNone, kFitted };

// Rounds a row to groups, one for each 32 values; those that the last group lacks are zeros. A group with
// NaN, infinity or values beyond what its scale can hold becomes NaN as a whole (with super-blocks: its
// super-block), never some plausible number.
// `importance`: how much the error of each column counts (format/fit.h), as long as the row; empty: all
// alike.
void quantize_row(DType dtype, std::span<const float> row, ScaleSearch search, BlockGroup* groups,
                  std::span<const float> importance = {});

// Chooses the factors of one group anew for other values of its own, under the scale (and minimum) of its
// super-block or row, which stay. Of a format whose groups have scales of their own, all of it. Codes are the
// nearest.
void refit_group(DType dtype, std::span<const float, kGroupSize> values, std::span<const float> importance,
                 BlockGroup& group);

}  // namespace linnet::format
