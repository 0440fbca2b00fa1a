// What the ops that multiply by a matrix share: shaders/product.glsl.
#pragma once

#include <algorithm>

#include "backends/vulkan/lowering.h"
#include "format/panel.h"

namespace linnet::vulkan {

// Panels that one dispatch can reach, in one matrix or in two of equal rows.
struct PanelRange {
  uint32_t first_panel, panels;
  Region first, second;              // parts of the matrices
  uint32_t first_skip, second_skip;  // panels of the parts before the range
  uint64_t bytes;                    // that it reads
};

// `second` of -1: one matrix. Matrices are cut where a part ends; two of different types end differently.
inline std::vector<PanelRange> panel_ranges(const Lowering& l, size_t first, int second) {
  const auto panel_bytes = [&](size_t i) {
    const Shape& w = l.shapes.weights[i];
    return format::panel_bytes(w.dtype, w.channels());
  };
  const auto part_of = [&](size_t i, uint32_t panel) -> const MatrixPart& {
    return *std::ranges::find_if(l.matrix(i),
                                 [&](const MatrixPart& p) { return panel < p.first_panel + p.panels; });
  };
  std::vector<PanelRange> ranges;
  const uint32_t all = l.matrix(first).back().first_panel + l.matrix(first).back().panels;
  for (uint32_t begin = 0; begin < all;) {
    const MatrixPart& part = part_of(first, begin);
    uint32_t end = part.first_panel + part.panels;
    PanelRange range{begin, 0, part.region, {}, begin - part.first_panel, 0, 0};
    if (second >= 0) {
      const MatrixPart& other = part_of(static_cast<size_t>(second), begin);
      end = std::min(end, other.first_panel + other.panels);
      range.second = other.region;
      range.second_skip = begin - other.first_panel;
      range.bytes += (end - begin) * panel_bytes(static_cast<size_t>(second));
    }
    range.panels = end - begin;
    range.bytes += range.panels * panel_bytes(first);
    ranges.push_back(range);
    begin = end;
  }
  return ranges;
}

// From so many tokens on a product goes through shared memory: shaders/linear_tiled.glsl.
inline constexpr int64_t kTiledRows = 16;
inline constexpr uint32_t kTiledThreads = 128, kTiledTokens = 32, kTiledOutputs = 64, kTiledInputs = 32,
                          kTiledBytes = 16 << 10;
inline bool tiled(const Lowering& l, int64_t rows) {
  return rows >= kTiledRows && l.device().most_threads() >= kTiledThreads &&
         l.device().shared_bytes() >= kTiledBytes;
}

inline constexpr uint32_t kProductThreads = 128;
// The flag WHOLE of shaders/product.glsl and expert.glsl.
inline uint32_t whole_groups(int64_t k) { return k % kGroupSize == 0 ? 32u : 0u; }
inline uint32_t product_tile(int64_t rows) { return rows == 1 ? 1u : rows <= 4 ? 4u : 8u; }
// Four threads for each eight inputs (shaders/slices.glsl), as far as that pays, and whole subgroups.
inline uint32_t product_threads(const Lowering& l, int64_t k) {
  const uint32_t wish =
      std::max(threads_for((k + 31) / 32 * 16, kProductThreads), l.device().abilities().shuffles);
  return std::min(wish, l.device().most_threads());
}

}  // namespace linnet::vulkan
