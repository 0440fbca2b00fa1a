// Products of many rows with block formats and AVX2's maddubs. The number of instructions is their limit, and
// unpacking weights anew for every tile is up to a sixth of them. So a stretch of a panel is unpacked once,
// all rows of a block pass it, and their sums wait in y for the next stretch. Products and additions are
// those of QuantizedTile in the same order: the same bits.
//
// What codes of 8 bits gain is the pipes: maddubs wants one side unsigned, so the sign of w goes to x, and
// psign competes for the two pipes of the multiplications. An exclusive or does not. Where w < 0 it makes -x
// - 1 of x, and |w| (-x - 1) = w x - |w|: the sum of those |w| is known once the group is unpacked, and its
// sum begins with it.
#pragma once

#include "backends/cpu/matmul_quantized_inl.h"

namespace linnet::cpu {
namespace {

// The scales of the rows of a panel for each half of a group, then the minima.
template <class Block>
using UnpackedFactors = float[Block::kHalves * (Block::kMinimum ? 2 : 1)][kPanel];
template <class Block>
HWY_INLINE void unpack_factors(const BlockCursor<Block::kType>& w, UnpackedFactors<Block>& factors) {
  using Factors = typename Block::Factors;
  LINNET_FOR (h, Block::kHalves)
    LINNET_FOR (s, kParts) {
      hn::Store(Factors::scale(w.head, w.factors, h, s), DF32(), factors[h] + s * kLanes);
      if constexpr (Block::kMinimum)
        hn::Store(Factors::minimum(w.head, w.factors, h, s), DF32(),
                  factors[Block::kHalves + h] + s * kLanes);
    }
}

// One group of a panel: 8 times 4 inputs of 16 outputs each.
template <class Block, bool Signed = Block::Steps::kSigned>
struct UnpackedGroup {
  alignas(64) uint8_t weights[8][64];
  alignas(64) UnpackedFactors<Block> factors;

  HWY_INLINE void unpack(const BlockCursor<Block::kType>& w) {
    const std::byte* codes = w.block + Block::kCodes;
    for_constants<8>([&]<size_t I>() LINNET_INLINE {
      LINNET_FOR (s, kParts)
        hn::Store(Block::Steps::template load<I>(codes + s * kVectorBytes), DU8(),
                  weights[I] + s * kVectorBytes);
    });
    unpack_factors<Block>(w, factors);
  }

  // The products of half H.
  template <size_t H, size_t Rows>
  HWY_INLINE void dot(const ActivationGroup* const (&x)[Rows], VI32 (&out)[kParts][Rows]) const {
    LINNET_FOR (r, Rows)
      LINNET_FOR (s, kParts) out[s][r] = Block::bias(*x[r], H);
    LINNET_FOR (c, Block::kSteps / Block::kSafeSteps) {
      UnsignedDot::Accumulator acc[kParts][Rows];
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts) acc[s][r] = UnsignedDot::begin(out[s][r]);
      LINNET_FOR (i, Block::kSafeSteps) {
        const size_t at = H * Block::kSteps + c * Block::kSafeSteps + i;
        VU8 w[kParts];
        LINNET_FOR (s, kParts) w[s] = hn::Load(DU8(), weights[at] + s * kVectorBytes);
        LINNET_FOR (r, Rows) {
          const VI8 v = broadcast4(x[r]->q + 4 * at);
          LINNET_FOR (s, kParts) acc[s][r] = UnsignedDot::step(acc[s][r], w[s], v);
        }
      }
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts) out[s][r] = UnsignedDot::end(acc[s][r], out[s][r]);
    }
  }
};

template <class Block>
struct UnpackedGroup<Block, true> {
  alignas(64) uint8_t magnitude[8][64];
  uint8_t flip[8][64];    // all ones where w < 0
  int32_t begin[kPanel];  // sum of |w| over w < 0
  alignas(64) UnpackedFactors<Block> factors;

  HWY_INLINE void unpack(const BlockCursor<Block::kType>& w) {
    const std::byte* codes = w.block + Block::kCodes;
    LINNET_FOR (s, kParts) {
      VI32 sum = hn::Zero(DI32());
      for_constants<8>([&]<size_t I>() LINNET_INLINE {
        const VI8 v = hn::BitCast(DI8(), Block::Steps::template load<I>(codes + s * kVectorBytes));
        const VU8 size = hn::BitCast(DU8(), hn::Abs(v)), mask = hn::BitCast(DU8(), hn::BroadcastSignBit(v));
        hn::Store(size, DU8(), magnitude[I] + s * kVectorBytes);
        hn::Store(mask, DU8(), flip[I] + s * kVectorBytes);
        sum = hn::Add(sum, add_pairs(multiply_pairs(hn::And(size, mask), hn::Set(DI8(), int8_t{1}))));
      });
      hn::Store(sum, DI32(), begin + s * kLanes);
    }
    unpack_factors<Block>(w, factors);
  }

  template <size_t H, size_t Rows>
  HWY_INLINE void dot(const ActivationGroup* const (&x)[Rows], VI32 (&out)[kParts][Rows]) const {
    static_assert(Block::kHalves == 1);
    LINNET_FOR (r, Rows)
      LINNET_FOR (s, kParts) out[s][r] = hn::Load(DI32(), begin + s * kLanes);
    LINNET_FOR (i, 8) {
      VU8 w[kParts];
      LINNET_FOR (s, kParts) w[s] = hn::Load(DU8(), magnitude[i] + s * kVectorBytes);
      LINNET_FOR (r, Rows) {
        const VI8 v = broadcast4(x[r]->q + 4 * i);
        LINNET_FOR (s, kParts) {
          const VI8 flipped = hn::Xor(v, hn::BitCast(DI8(), hn::Load(DU8(), flip[i] + s * kVectorBytes)));
          // |w| <= 128 and -128 <= flipped <= 127: a pair's sum fits 16 bits.
          out[s][r] = hn::Add(out[s][r], add_pairs(multiply_pairs(w[s], flipped)));
          keep(out[s][r]);
        }
      }
    }
  }
};

// The groups of a row of x and of a panel are counted through all segments.
template <class Block>
class UnpackedTile {
 public:
  // Outputs of panels [panel_begin, panel_end) of all rows, Rows of them at a time.
  template <size_t Rows>
  static void matmul(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end) {
    if (args.rows < kLeastRows) return cpu::matmul<Packed, Rows, 1>(args, panel_begin, panel_end);
    const auto rows = static_cast<size_t>(args.rows);
    const size_t groups = group_count(args.k) * static_cast<size_t>(args.segments);
    const size_t stretches = (groups + kLongestStretch - 1) / kLongestStretch;
    const size_t stretch = (groups + stretches - 1) / stretches;
    // The inputs of a stretch in all rows of a block stay in the second-level cache while the panels pass by.
    const size_t row_bytes = stretch * sizeof(ActivationGroup);
    const size_t block = rows_of_block(row_bytes < args.x_stride ? row_bytes : args.x_stride, Rows);
    for (size_t row = 0; row < rows; row += block) {
      const size_t end = row + block < rows ? row + block : rows;
      for (size_t g = 0; g < groups; g += stretch)
        pass_panels<Rows>(args, g, g + stretch < groups ? g + stretch : groups,
                          static_cast<size_t>(panel_begin), static_cast<size_t>(panel_end), row, end);
    }
  }

 private:
  using Packed = QuantizedTile<Block>;
  using Group = UnpackedGroup<Block>;
  static constexpr int64_t kLeastRows = 32;  // with fewer, unpacking costs more than it saves
  // Groups; unpacked they take 40 KiB (8 bits: 72) of the stack and pass by from the second-level cache.
  static constexpr size_t kLongestStretch = 64;

  struct Stretch {
    const Group* unpacked;
    size_t begin, end;  // groups
  };

  // Adds the products of groups [begin, end) to the outputs of rows [row, row_end).
  template <size_t Rows>
  static void pass_panels(const MatmulArgs& args, size_t begin, size_t end, size_t panel, size_t panel_end,
                          size_t row, size_t row_end) {
    Group unpacked[kLongestStretch];
    const Stretch stretch{unpacked, begin, end};
    const size_t groups = group_count(args.k) * static_cast<size_t>(args.segments);
    const size_t panel_bytes = Block::bytes_of(groups);
    for (; panel < panel_end; ++panel) {
      BlockCursor<Block::kType> w(args.weights + panel * panel_bytes, begin);
      for (size_t g = begin; g < end; ++g, w.next()) {
        prefetch_weights<Block::kBytes>(w.block);
        unpacked[g - begin].unpack(w);
      }
      cover_rows<Rows>(row, row_end, [&]<size_t R>(size_t at) {
        add_stretch<R>(args, stretch, panel, at);
        if (args.refine != Refine::kNone && end == groups)
          Packed::template add_second_terms<R, 1>(args, panel_bytes, panel, at);
      });
    }
  }

  template <size_t Rows>
  static HWY_NOINLINE void add_stretch(const MatmulArgs& args, const Stretch& stretch, size_t panel,
                                       size_t row) {
    const auto y_stride = static_cast<size_t>(args.y_stride);
    float* const y = args.y + row * y_stride + panel * kPanel;
    const size_t columns = static_cast<size_t>(args.n) - panel * kPanel;
    const bool first = stretch.begin == 0;
    VF32 sum[Rows][kParts];
    LINNET_FOR (r, Rows) {
      float* const own = y + r * y_stride;
      // The lines of y come while a tile is computed: this one's, as in compute_tile(), or, where sums are
      // read before, the next one's. Rows of y often lie a power of two apart and drive each other out.
      __builtin_prefetch(first ? own : own + Rows * y_stride, 1);
      begin_panel(first, own, columns, sum[r]);
    }
    const size_t in_segment = group_count(args.k);
    const Group* group = stretch.unpacked;
    for (size_t g = stretch.begin; g < stretch.end;) {
      const size_t segment = g / in_segment, at = g % in_segment;
      const size_t rest = stretch.end - g, count = rest < in_segment - at ? rest : in_segment - at;
      const auto* inputs = static_cast<const std::byte*>(args.x_segments ? args.x_segments[segment] : args.x);
      const ActivationGroup* x[Rows];
      LINNET_FOR (r, Rows)
        x[r] = reinterpret_cast<const ActivationGroup*>(inputs + (row + r) * args.x_stride) + at;
      for (const Group* const end = group + count; group != end; ++group) {
        add_group<Rows>(*group, x, sum);
        LINNET_FOR (r, Rows) ++x[r];
      }
      g += count;
    }
    LINNET_FOR (r, Rows) store_panel(sum[r], columns, y + r * y_stride);
  }

  template <size_t Rows>
  static HWY_INLINE void add_group(const Group& group, const ActivationGroup* const (&x)[Rows],
                                   VF32 (&sum)[Rows][kParts]) {
    for_constants<Block::kHalves>([&]<size_t H>() LINNET_INLINE {
      VI32 dots[kParts][Rows];
      group.template dot<H, Rows>(x, dots);
      LINNET_FOR (r, Rows)
        LINNET_FOR (s, kParts)
          Packed::add_scaled(
              [&](size_t i)
                  HWY_ATTR { return hn::Load(DF32(), group.factors[i * Block::kHalves + H] + s * kLanes); },
              H, *x[r], dots[s][r], sum[r][s]);
    });
  }
};

}  // namespace
}  // namespace linnet::cpu
