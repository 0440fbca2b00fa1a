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
//   bf16       y = (sum over pairs 0, 2, 4, ...) + (sum over pairs 1, 3, 5, ...), segment by segment
#pragma once

#include "backends/cpu/matmul_tile_inl.h"

namespace linnet::cpu {
namespace {

struct TileF32 {
  static size_t panel_bytes(int64_t k) { return static_cast<size_t>(k) * kPanel * sizeof(float); }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* weights, size_t panel_stride, const std::byte* x_rows,
                             size_t x_stride, int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    const auto* w = reinterpret_cast<const float*>(weights);
    const size_t stride = panel_stride / sizeof(float);
    const float* x[Rows];
    LINNET_FOR (r, Rows) x[r] = reinterpret_cast<const float*>(x_rows + r * x_stride);
    for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
      LINNET_FOR (p, Panels) prefetch<64>(reinterpret_cast<const std::byte*>(w + p * stride));
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
  static size_t panel_bytes(int64_t k) { return static_cast<size_t>(k + 1) / 2 * kPanel * 4; }

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
  static HWY_INLINE void run(const std::byte* w, size_t panel_stride, const std::byte* x_rows,
                             size_t x_stride, int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    const auto columns = static_cast<size_t>(k);
    const float* x[Rows];
    LINNET_FOR (r, Rows) x[r] = reinterpret_cast<const float*>(x_rows + r * x_stride);
    VF32 sums[Panels][Rows][2 * kParts];
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, 2 * kParts) sums[p][r][s] = hn::Zero(DF32());
    VF32 pair[Rows];
    for (size_t i = 0; i + 2 <= columns; i += 2) {
      LINNET_FOR (p, Panels) prefetch<64>(w + p * panel_stride);
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
// Rows are rounded a stretch at a time, beside the product: an eighth of its work, and no caller need know.
struct TileBF16Pairs {
  static constexpr size_t kStretch = 256;  // inputs, an even number of pairs

  static size_t panel_bytes(int64_t k) { return TileHalf<LoadBF16>::panel_bytes(k); }

  // n floats to ceil(n / 2) pairs; what is missing of the last is zero.
  static HWY_INLINE void round_row(const float* x, size_t n, uint32_t* pairs) {
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store_rounded(hn::LoadU(DF32(), x + i), pairs + i / 2);
    if (i == n) return;
    alignas(64) float rest[kLanes] = {};
    __builtin_memcpy(rest, x + i, (n - i) * sizeof(float));
    store_rounded(hn::Load(DF32(), rest), pairs + i / 2);
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* w, size_t panel_stride, const std::byte* x_rows,
                             size_t x_stride, int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    VF32 sums[2][Panels][Rows][kParts];
    LINNET_FOR (o, 2)
      LINNET_FOR (p, Panels)
        LINNET_FOR (r, Rows)
          LINNET_FOR (s, kParts) sums[o][p][r][s] = hn::Zero(DF32());
    alignas(64) uint32_t pairs[Rows][kStretch / 2];
    const auto step = [&](size_t i, VF32(&to)[Panels][Rows][kParts]) {
      LINNET_FOR (p, Panels) prefetch<64>(w + p * panel_stride);
      LINNET_FOR (s, kParts) {
        VU8 weight[Panels];
        LINNET_FOR (p, Panels) weight[p] = load_bytes(w + p * panel_stride + s * kVectorBytes);
        LINNET_FOR (r, Rows) {
          const VI32 x = hn::Set(DI32(), static_cast<int32_t>(pairs[r][i]));
          LINNET_FOR (p, Panels) to[p][r][s] = dot_bf16(to[p][r][s], weight[p], x);
        }
      }
      w += kPanel * 4;
    };
    const auto columns = static_cast<size_t>(k);
    for (size_t first = 0; first < columns; first += kStretch) {
      const size_t n = columns - first < kStretch ? columns - first : kStretch;
      LINNET_FOR (r, Rows)
        round_row(reinterpret_cast<const float*>(x_rows + r * x_stride) + first, n, pairs[r]);
      const size_t count = (n + 1) / 2;
      size_t i = 0;
      for (; i + 2 <= count; i += 2) {
        step(i, sums[0]);
        step(i + 1, sums[1]);
      }
      if (i < count) step(i, sums[0]);
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts)
          sum[p][r][s] = hn::Add(sum[p][r][s], hn::Add(sums[0][p][r][s], sums[1][p][r][s]));
  }
};
#endif

}  // namespace
}  // namespace linnet::cpu
