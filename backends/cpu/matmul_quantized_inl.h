// q8, q4 and q4a products for one instruction set. A tile is `Rows` rows of x times `Panels` panels: integer
// sums of one group and float sums over groups stay in registers. Weights are unpacked once per tile and
// group.
//
//   y = sum over groups g of  dot(g) * (d_w[g] * d_x[g])  [ + m_w[g] * sum_x[g] for q4a ]
//
// each group one fused multiply-add (two for q4a), in order of g, whatever Rows and Panels are.
#pragma once

#include "backends/cpu/dot_inl.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/matmul_tile_inl.h"

namespace linnet::cpu {
namespace {

HWY_INLINE VI8 broadcast4(const int8_t* q) {
  int32_t word;
  __builtin_memcpy(&word, q, 4);
  return hn::BitCast(DI8(), hn::Set(DI32(), word));
}

HWY_INLINE VU8 load_bytes(const std::byte* p) {
  return hn::LoadU(DU8(), reinterpret_cast<const uint8_t*>(p));
}

// One block format: the integer dot products of a group for a tile.
struct BlockQ8 {
  static constexpr size_t kScales = 32;
  static constexpr size_t kBytes = 544;
  static constexpr bool kMinimum = false;

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void dot(const std::byte* w, size_t panel_stride, const ActivationGroup* const (&x)[Rows],
                             VI32 (&out)[Panels][Rows][kParts]) {
    ByteDot::Accumulator acc[Panels][Rows][kParts];
    LINNET_FOR (r, Rows) {
      const VI32 bias = hn::Set(DI32(), x[r]->bias128);
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) acc[p][r][s] = ByteDot::begin(bias);
    }
    LINNET_FOR (i, 8) {
      ByteDot::Weight weight[Panels][kParts];
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts)
          weight[p][s] = ByteDot::prepare(
              hn::BitCast(DI8(), load_bytes(w + p * panel_stride + kScales + i * 64 + s * kVectorBytes)));
      LINNET_FOR (r, Rows) {
        const VI8 v = broadcast4(x[r]->q + 4 * i);
        LINNET_FOR (p, Panels)
          LINNET_FOR (s, kParts) acc[p][r][s] = ByteDot::step(acc[p][r][s], weight[p][s], v);
      }
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts) out[p][r][s] = ByteDot::end(acc[p][r][s]);
  }
};

template <size_t Scales, bool Minimum>
struct BlockNibbles {
  static constexpr size_t kScales = Scales;
  static constexpr size_t kBytes = Scales + 256;
  static constexpr bool kMinimum = Minimum;

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void dot(const std::byte* w, size_t panel_stride, const ActivationGroup* const (&x)[Rows],
                             VI32 (&out)[Panels][Rows][kParts]) {
    const VU8 mask = hn::Set(DU8(), uint8_t{15});
    NibbleDot::Accumulator acc[Panels][Rows][kParts];
    LINNET_FOR (r, Rows) {
      const VI32 bias = Minimum ? hn::Zero(DI32()) : hn::Set(DI32(), x[r]->bias8);
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) acc[p][r][s] = NibbleDot::begin(bias);
    }
    LINNET_FOR (i, 4) {
      VU8 low[Panels][kParts], high[Panels][kParts];
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) {
          const VU8 pair = load_bytes(w + p * panel_stride + kScales + i * 64 + s * kVectorBytes);
          low[p][s] = hn::And(pair, mask);
          high[p][s] = hn::ShiftRight<4>(pair);
        }
      LINNET_FOR (r, Rows) {
        const VI8 v0 = broadcast4(x[r]->q + 4 * i);
        LINNET_FOR (p, Panels)
          LINNET_FOR (s, kParts) acc[p][r][s] = NibbleDot::step(acc[p][r][s], low[p][s], v0);
        const VI8 v1 = broadcast4(x[r]->q + 16 + 4 * i);
        LINNET_FOR (p, Panels)
          LINNET_FOR (s, kParts) acc[p][r][s] = NibbleDot::step(acc[p][r][s], high[p][s], v1);
      }
    }
    LINNET_FOR (r, Rows) {
      const VI32 bias = Minimum ? hn::Zero(DI32()) : hn::Set(DI32(), x[r]->bias8);
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) out[p][r][s] = NibbleDot::end(acc[p][r][s], bias);
    }
  }
};
using BlockQ4 = BlockNibbles<32, false>;
using BlockQ4A = BlockNibbles<64, true>;

template <class Block>
struct QuantizedTile {
  static size_t panel_bytes(int64_t k) {
    return static_cast<size_t>((k + kGroupSize - 1) / kGroupSize) * Block::kBytes;
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* w, size_t panel_stride, const std::byte* x, size_t x_stride,
                             int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    const auto groups = static_cast<size_t>((k + kGroupSize - 1) / kGroupSize);
    const ActivationGroup* row[Rows];
    LINNET_FOR (r, Rows) row[r] = reinterpret_cast<const ActivationGroup*>(x + r * x_stride);
    for (size_t g = 0; g < groups; ++g) {
      LINNET_FOR (p, Panels) prefetch<Block::kBytes>(w + p * panel_stride);
      VI32 dots[Panels][Rows][kParts];
      Block::template dot<Rows, Panels>(w, panel_stride, row, dots);
      LINNET_FOR (p, Panels)
        LINNET_FOR (s, kParts) {
          const VF32 scale = load_halfs(w + p * panel_stride + s * kLanes * 2);
          LINNET_FOR (r, Rows)
            sum[p][r][s] = hn::MulAdd(hn::ConvertTo(DF32(), dots[p][r][s]),
                                      hn::Mul(scale, hn::Set(DF32(), row[r]->d)), sum[p][r][s]);
          if constexpr (Block::kMinimum) {
            const VF32 minimum = load_halfs(w + p * panel_stride + 32 + s * kLanes * 2);
            LINNET_FOR (r, Rows)
              sum[p][r][s] = hn::MulAdd(minimum, hn::Set(DF32(), row[r]->sum), sum[p][r][s]);
          }
        }
      w += Block::kBytes;
      LINNET_FOR (r, Rows) ++row[r];
    }
  }
};

}  // namespace
}  // namespace linnet::cpu
