// What the tile kernels of one instruction set share: loads, stores of partial panels, and the loops that
// cover a range of panels and all rows with tiles.
#pragma once

#include "backends/cpu/dot_inl.h"
#include "backends/cpu/matmul.h"

// A loop over a constant count that must be unrolled, so that arrays of vectors become registers.
#if defined(__clang__)
#define LINNET_FOR(i, count) _Pragma("clang loop unroll(full)") for (size_t i = 0; i < (count); ++i)
#else
#define LINNET_FOR(i, count) _Pragma("GCC unroll 16") for (size_t i = 0; i < (count); ++i)
#endif

namespace linnet::cpu {
namespace {

inline constexpr size_t kPanel = 16;
// Sixteen registers hold the sums of 8 rows for one part of a panel, or of 4 rows for both parts. The second
// broadcasts every input once instead of twice, which maddubs gains from: the number of instructions is its
// limit. With AVX-VNNI it was not tried.
inline constexpr bool kPartsTogether = LINNET_PLAIN_AVX2;

// Hardware prefetchers stop at page ends; this distance spans a page's end and hides a memory access.
inline constexpr size_t kPrefetchAhead = 4096;
// For weights the nearer one reads up to an eighth more of the bandwidth on processors without VNNI (Zen 3),
// and less on newer ones (docs/performance.md).
inline constexpr size_t kWeightsAhead = LINNET_PLAIN_AVX2 ? 1024 : kPrefetchAhead;
template <size_t Bytes>
HWY_INLINE void prefetch_weights(const std::byte* w) {
  LINNET_FOR (i, (Bytes + 63) / 64) __builtin_prefetch(w + kWeightsAhead + i * 64, 0, 3);
}

HWY_INLINE VU8 load_bytes(const std::byte* p) {
  return hn::LoadU(DU8(), reinterpret_cast<const uint8_t*>(p));
}

HWY_INLINE VF32 load_halfs(const std::byte* p) {
  const hn::Rebind<hwy::float16_t, DF32> half;
  return hn::PromoteTo(DF32(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(p)));
}

// Writes the first `count` of 16 outputs.
HWY_INLINE void store_panel(const VF32 (&v)[kParts], size_t count, float* y) {
  if (count >= kPanel) {
    LINNET_FOR (s, kParts) hn::StoreU(v[s], DF32(), y + s * kLanes);
    return;
  }
  alignas(64) float buffer[kPanel];
  for (size_t s = 0; s < kParts; ++s) hn::Store(v[s], DF32(), buffer + s * kLanes);
  __builtin_memcpy(y, buffer, count * sizeof(float));
}

// Reads it back; lanes beyond `count` are zeros.
HWY_INLINE void load_panel(const float* y, size_t count, VF32 (&v)[kParts]) {
  alignas(64) float buffer[kPanel] = {};
  if (count < kPanel) {
    __builtin_memcpy(buffer, y, count * sizeof(float));
    y = buffer;
  }
  LINNET_FOR (s, kParts) v[s] = hn::LoadU(DF32(), y + s * kLanes);
}

// The sums so far of a row of a panel: zeros at first, then what lies in y.
HWY_INLINE void begin_panel(bool first, const float* y, size_t count, VF32 (&v)[kParts]) {
  if (!first) return load_panel(y, count, v);
  LINNET_FOR (s, kParts) v[s] = hn::Zero(DF32());
}

// One tile: Rows rows from `row` on, Panels panels from `panel` on.
template <class Tile, size_t Rows, size_t Panels>
HWY_NOINLINE void compute_tile(const MatmulArgs& args, size_t panel_bytes, size_t panel, size_t row) {
  VF32 sum[Panels][Rows][kParts];
  LINNET_FOR (p, Panels)
    LINNET_FOR (r, Rows)
      LINNET_FOR (s, kParts) sum[p][r][s] = hn::Zero(DF32());
  // The lines of y come while the tile is computed. Else each row's store waits for its line, stores retire
  // in order, and those of the next tile's sums fill the queue behind it.
  if constexpr (Rows > 1)
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        __builtin_prefetch(args.y + (row + r) * static_cast<size_t>(args.y_stride) + (panel + p) * kPanel, 1);
  for (size_t s = 0; s < static_cast<size_t>(args.segments); ++s) {
    const void* const x = args.x_segments ? args.x_segments[s] : args.x;
    Tile::template run<Rows, Panels>(args.weights + panel * panel_bytes, panel_bytes, s,
                                     static_cast<const std::byte*>(x) + row * args.x_stride, args.x_stride,
                                     args.k, sum);
  }
  LINNET_FOR (p, Panels)
    LINNET_FOR (r, Rows) {
      const size_t column = (panel + p) * kPanel;
      store_panel(sum[p][r], static_cast<size_t>(args.n) - column,
                  args.y + (row + r) * static_cast<size_t>(args.y_stride) + column);
    }
  if constexpr (requires { &Tile::template add_second_terms<Rows, Panels>; })
    if (args.refine != Refine::kNone)
      Tile::template add_second_terms<Rows, Panels>(args, panel_bytes, panel, row);
}

// tile<R>(row) for all rows [row, end), R of them at a time, the largest tiles first.
template <size_t Rows, class Function>
HWY_INLINE void cover_rows(size_t row, size_t end, const Function& tile) {
  for (; row + Rows <= end; row += Rows) tile.template operator()<Rows>(row);
  if constexpr (Rows > 1) {
    constexpr size_t kNext = Rows > 4 ? Rows / 2 : Rows - 1;
    if (row < end) cover_rows<kNext>(row, end, tile);
  }
}

// Rows go in blocks whose activations stay in the second-level cache while every panel passes by.
inline constexpr size_t kActivationCacheBytes = 384 * 1024;
inline size_t rows_of_block(size_t row_bytes, size_t tile_rows) {
  const size_t fit = kActivationCacheBytes / row_bytes / tile_rows * tile_rows;
  return fit < 2 * tile_rows ? 2 * tile_rows : fit;
}

template <class Tile, size_t Rows, size_t Panels>
void matmul(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end) {
  const size_t panel_bytes = Tile::panel_bytes(args.k, args.segments);
  const auto end = static_cast<size_t>(panel_end);
  const auto rows = static_cast<size_t>(args.rows);
  if (rows == 1) {
    for (auto panel = static_cast<size_t>(panel_begin); panel < end; ++panel)
      compute_tile<Tile, 1, 1>(args, panel_bytes, panel, 0);
    return;
  }
  const size_t block = rows_of_block(args.x_stride * static_cast<size_t>(args.segments), Rows);
  for (size_t row = 0; row < rows; row += block) {
    const size_t row_end = row + block < rows ? row + block : rows;
    auto panel = static_cast<size_t>(panel_begin);
    for (; panel + Panels <= end; panel += Panels)
      cover_rows<Rows>(row, row_end, [&]<size_t R>(size_t at) {
        compute_tile<Tile, R, Panels>(args, panel_bytes, panel, at);
      });
    if constexpr (Panels > 1)
      for (; panel < end; ++panel)
        cover_rows<Rows>(row, row_end, [&]<size_t R>(size_t at) {
          compute_tile<Tile, R, 1>(args, panel_bytes, panel, at);
        });
  }
}

}  // namespace
}  // namespace linnet::cpu
