// f32, f16 and bf16 products for one instruction set: weights widened to f32 on the way, f32 arithmetic.
//
//   f32        y = x[0] w[0] + x[1] w[1] + ...                     in order of the inputs
//   f16, bf16  y = (sum over even inputs) + (sum over odd inputs)  each in order of the inputs, segment by
//   segment
//
// every product a fused multiply-add. Pairs [row][2] are multiplied by (x[k], x[k+1]) as they lie; the even
// and odd lanes meet once, at the end.
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

}  // namespace
}  // namespace linnet::cpu
