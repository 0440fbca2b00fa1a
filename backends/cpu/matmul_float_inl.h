// f32, f16 and bf16 products for one instruction set: weights widened to f32 on the way, f32 arithmetic.
//
//   f32        y = x[0] w[0] + x[1] w[1] + ...                     in order of the inputs
//   f16, bf16  y = (sum over even inputs) + (sum over odd inputs)  each in order of the inputs, segment by
//   segment
//
// every product a fused multiply-add. Pairs [row][2] are multiplied by (x[k], x[k+1]) as they lie; the even
// and odd lanes meet once, at the end. Where the processor multiplies pairs of bf16 itself, rows meet bf16
// weights rounded to bf16 (nearest even), and
//
//   bf16       y = (sum over pairs 0, 2, 4, ...) + (sum over pairs 1, 3, 5, ...) of each stretch of 256
//   inputs, added stretch by stretch and segment by segment
#pragma once

#include "backends/cpu/matmul_tile_inl.h"

namespace linnet::cpu {
namespace {

struct TileF32 {
  static size_t panel_bytes(int64_t k, int64_t segments = 1) {
    return static_cast<size_t>(k * segments) * kPanel * sizeof(float);
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* panel, size_t panel_stride, size_t segment,
                             const std::byte* x_rows, size_t x_stride, int64_t k,
                             VF32 (&sum)[Panels][Rows][kParts]) {
    const auto* w = reinterpret_cast<const float*>(panel + segment * panel_bytes(k));
    const size_t stride = panel_stride / sizeof(float);
    const float* x[Rows];
    LINNET_FOR (r, Rows) x[r] = reinterpret_cast<const float*>(x_rows + r * x_stride);
    for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
      LINNET_FOR (p, Panels) prefetch_weights<64>(reinterpret_cast<const std::byte*>(w + p * stride));
      VF32 weight[Panels][kParts];
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) weight[p][s] = hn::LoadU(DF32(), w + p * stride + s * kLanes);
      LINNET_FOR (r, Rows) {
        const VF32 v = hn::Set(DF32(), x[r][i]);
        LINNET_FOR (p, Panels)
          LINNET_FOR (s, kParts) sum[p][r][s] = hn::MulAdd(weight[p][s], v, sum[p][r][s]);
      }
      w += kPanel;
    }
  }
};

struct LoadF16 {
  static HWY_INLINE VF32 load(const std::byte* p) { return load_halfs(p); }
};
struct LoadBF16 {
  static HWY_INLINE VF32 load(const std::byte* p) {
    const hn::Rebind<uint16_t, DF32> half;
    const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(p));
    return hn::BitCast(DF32(), hn::ShiftLeft<16>(hn::PromoteTo(DI32(), bits)));
  }
};

// (low, high, low, high, ...) in every pair of lanes.
HWY_INLINE VF32 broadcast_pair(float low, float high) {
  uint64_t pair;
  const float values[2] = {low, high};
  __builtin_memcpy(&pair, values, 8);
  return hn::BitCast(DF32(), hn::Set(hn::CappedTag<uint64_t, kLanes / 2>(), pair));
}

template <class Half>
struct TileHalf {
  static size_t panel_bytes(int64_t k, int64_t segments = 1) {
    return static_cast<size_t>(k + 1) / 2 * static_cast<size_t>(segments) * kPanel * 4;
  }

  // One pair of inputs; sums[.][.][2 s] and [2 s + 1] hold the pairs of the rows of part s.
  template <size_t Rows, size_t Panels>
  static HWY_INLINE void step(const std::byte* w, size_t panel_stride, const VF32 (&x)[Rows],
                              VF32 (&sums)[Panels][Rows][2 * kParts]) {
    LINNET_FOR (p, Panels)
      LINNET_FOR (s, 2 * kParts) {
        const VF32 weight = Half::load(w + p * panel_stride + s * kLanes * 2);
        LINNET_FOR (r, Rows) sums[p][r][s] = hn::MulAdd(weight, x[r], sums[p][r][s]);
      }
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* panel, size_t panel_stride, size_t segment,
                             const std::byte* x_rows, size_t x_stride, int64_t k,
                             VF32 (&sum)[Panels][Rows][kParts]) {
    const std::byte* w = panel + segment * panel_bytes(k);
    const auto columns = static_cast<size_t>(k);
    const float* x[Rows];
    LINNET_FOR (r, Rows) x[r] = reinterpret_cast<const float*>(x_rows + r * x_stride);
    VF32 sums[Panels][Rows][2 * kParts];
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, 2 * kParts) sums[p][r][s] = hn::Zero(DF32());
    VF32 pair[Rows];
    for (size_t i = 0; i + 2 <= columns; i += 2) {
      LINNET_FOR (p, Panels) prefetch_weights<64>(w + p * panel_stride);
      LINNET_FOR (r, Rows) pair[r] = broadcast_pair(x[r][i], x[r][i + 1]);
      step<Rows, Panels>(w, panel_stride, pair, sums);
      w += kPanel * 4;
    }
    if (columns % 2 != 0) {  // the last weight of each pair is a stored zero; x ends here
      LINNET_FOR (r, Rows) pair[r] = broadcast_pair(x[r][columns - 1], 0.0f);
      step<Rows, Panels>(w, panel_stride, pair, sums);
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts) {
          const VF32 first = sums[p][r][2 * s], second = sums[p][r][2 * s + 1];
          const VF32 both =
              hn::Add(hn::ConcatEven(DF32(), second, first), hn::ConcatOdd(DF32(), second, first));
          sum[p][r][s] = hn::Add(sum[p][r][s], both);
        }
  }
};

#if LINNET_BF16_PAIRS
inline constexpr size_t kStretch = 256;     // inputs rounded at a time, an even number of pairs
inline constexpr size_t kRoundedRows = 96;  // rows held rounded at a time: 48 KiB

// n floats to ceil(n / 2) pairs; what is missing of the last is zero.
HWY_INLINE void round_row(const float* x, size_t n, uint32_t* pairs) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_rounded(hn::LoadU(DF32(), x + i), pairs + i / 2);
  if (i == n) return;
  alignas(64) float rest[kLanes] = {};
  __builtin_memcpy(rest, x + i, (n - i) * sizeof(float));
  store_rounded(hn::Load(DF32(), rest), pairs + i / 2);
}

// `count` pairs of one stretch, added to sum. Rows of pairs are kStretch / 2 apart.
template <size_t Rows, size_t Panels>
HWY_INLINE void add_stretch(const std::byte* w, size_t panel_stride, const uint32_t* pairs, size_t count,
                            VF32 (&sum)[Panels][Rows][kParts]) {
  VF32 sums[2][Panels][Rows][kParts];
  LINNET_FOR (o, 2)
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts) sums[o][p][r][s] = hn::Zero(DF32());
  const auto step = [&](size_t i, VF32(&to)[Panels][Rows][kParts]) {
    LINNET_FOR (p, Panels) prefetch_weights<64>(w + p * panel_stride);
    LINNET_FOR (s, kParts) {
      VU8 weight[Panels];
      LINNET_FOR (p, Panels) weight[p] = load_bytes(w + p * panel_stride + s * kVectorBytes);
      LINNET_FOR (r, Rows) {
        const VI32 x = hn::Set(DI32(), static_cast<int32_t>(pairs[r * (kStretch / 2) + i]));
        LINNET_FOR (p, Panels) to[p][r][s] = dot_bf16(to[p][r][s], weight[p], x);
      }
    }
    w += kPanel * 4;
  };
  size_t i = 0;
  for (; i + 2 <= count; i += 2) {
    step(i, sums[0]);
    step(i + 1, sums[1]);
  }
  if (i < count) step(i, sums[0]);
  LINNET_FOR (p, Panels)
    LINNET_FOR (r, Rows)
      LINNET_FOR (s, kParts)
        sum[p][r][s] = hn::Add(sum[p][r][s], hn::Add(sums[0][p][r][s], sums[1][p][r][s]));
}

// One row: the panel is streamed, the row rounded again for each; memory is slower than that.
struct TileBF16Pairs {
  static size_t panel_bytes(int64_t k, int64_t segments = 1) {
    return TileHalf<LoadBF16>::panel_bytes(k, segments);
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* panel, size_t panel_stride, size_t segment, const std::byte* x,
                             size_t /*x_stride*/, int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    static_assert(Rows == 1);
    const std::byte* w = panel + segment * panel_bytes(k);
    alignas(64) uint32_t pairs[kStretch / 2];
    const auto columns = static_cast<size_t>(k);
    for (size_t first = 0; first < columns; first += kStretch) {
      const size_t n = columns - first < kStretch ? columns - first : kStretch;
      round_row(reinterpret_cast<const float*>(x) + first, n, pairs);
      add_stretch<Rows, Panels>(w + first / 2 * kPanel * 4, panel_stride, pairs, (n + 1) / 2, sum);
    }
  }
};

// Many rows: a stretch of a block of rows is rounded once and meets that stretch of every panel, which stays
// in the first cache while the rows pass by. Sums of the stretches before are in y.
struct PairsBlock {
  const MatmulArgs* args;
  const std::byte* weights;  // the stretch in panel 0
  size_t panel_bytes, count;
  bool first;
};

template <size_t Rows, size_t Panels>
HWY_NOINLINE void pairs_tile(const PairsBlock& b, size_t panel, size_t row, const uint32_t* pairs) {
  VF32 sum[Panels][Rows][kParts];
  const size_t stride = static_cast<size_t>(b.args->y_stride), n = static_cast<size_t>(b.args->n);
  float* y = b.args->y + row * stride + panel * kPanel;
  LINNET_FOR (p, Panels)
    LINNET_FOR (r, Rows)
      begin_panel(b.first, y + r * stride + p * kPanel, n - (panel + p) * kPanel, sum[p][r]);
  add_stretch<Rows, Panels>(b.weights + panel * b.panel_bytes, b.panel_bytes, pairs, b.count, sum);
  LINNET_FOR (p, Panels)
    LINNET_FOR (r, Rows) store_panel(sum[p][r], n - (panel + p) * kPanel, y + r * stride + p * kPanel);
}

template <size_t Rows, size_t Panels>
void matmul_bf16_pairs(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end) {
  if (args.rows == 1) return matmul<TileBF16Pairs, 1, 1>(args, panel_begin, panel_end);
  alignas(64) uint32_t pairs[kRoundedRows * (kStretch / 2)];
  const size_t segment_bytes = TileBF16Pairs::panel_bytes(args.k), columns = static_cast<size_t>(args.k);
  const size_t rows = static_cast<size_t>(args.rows), segments = static_cast<size_t>(args.segments);
  for (size_t row = 0; row < rows; row += kRoundedRows) {
    const size_t end = row + kRoundedRows < rows ? row + kRoundedRows : rows;
    for (size_t s = 0; s < segments; ++s) {
      const auto* x = static_cast<const std::byte*>(args.x_segments ? args.x_segments[s] : args.x);
      for (size_t first = 0; first < columns; first += kStretch) {
        const size_t n = columns - first < kStretch ? columns - first : kStretch;
        for (size_t r = row; r < end; ++r)
          round_row(reinterpret_cast<const float*>(x + r * args.x_stride) + first, n,
                    pairs + (r - row) * (kStretch / 2));
        const PairsBlock block = {&args, args.weights + s * segment_bytes + first / 2 * kPanel * 4,
                                  segment_bytes * segments, (n + 1) / 2, s == 0 && first == 0};
        auto panel = static_cast<size_t>(panel_begin);
        const auto last = static_cast<size_t>(panel_end);
        for (; panel + Panels <= last; panel += Panels)
          cover_rows<Rows>(row, end, [&]<size_t R>(size_t at) {
            pairs_tile<R, Panels>(block, panel, at, pairs + (at - row) * (kStretch / 2));
          });
        if constexpr (Panels > 1)
          for (; panel < last; ++panel)
            cover_rows<Rows>(row, end, [&]<size_t R>(size_t at) {
              pairs_tile<R, 1>(block, panel, at, pairs + (at - row) * (kStretch / 2));
            });
      }
    }
  }
}
#endif

}  // namespace
}  // namespace linnet::cpu
