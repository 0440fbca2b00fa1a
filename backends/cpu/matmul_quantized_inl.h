// Products of block formats for one instruction set. A tile is `Rows` rows of x times `Panels` panels:
// integer sums of one group and float sums over groups stay in registers. Weights are unpacked once per tile
// and group.
//
//   y = sum over groups g of  dot(g) * (d_w[g] * d_x[g])  [ + m_w[g] * sum_x[g] with a minimum ]
//
// each group one fused multiply-add (two with a minimum), in order of g, whatever Rows and Panels are; second
// terms (Refine) follow in the same way.
#pragma once

#include <concepts>

#include "backends/cpu/block_inl.h"
#include "backends/cpu/matmul.h"

namespace linnet::cpu {
namespace {

HWY_INLINE VI8 broadcast4(const int8_t* q) {
  int32_t word;
  __builtin_memcpy(&word, q, 4);
  return hn::BitCast(DI8(), hn::Set(DI32(), word));
}

#if LINNET_I8MM
// Rows of x two by two: an operation multiplies 8 inputs of two rows of the panel with those of two rows of
// x. weight[i] holds inputs 4 (First + i) .. of the four rows of one part; exact, as every other way.
template <size_t First, size_t Count, size_t Rows>
HWY_INLINE void dot_row_pairs(const VI8 (&weight)[Count], const ActivationGroup* const (&x)[Rows],
                              VI32 (&out)[Rows]) {
  constexpr size_t kPairs = Rows / 2;
  int32x4_t low[kPairs], high[kPairs];  // rows 0 and 1, and 2 and 3, of the panel's part
  VI32 last = hn::Zero(DI32());
  LINNET_FOR (r, kPairs) low[r] = high[r] = vdupq_n_s32(0);
  LINNET_FOR (i, Count / 2) {
    const size_t at = 4 * First + 8 * i;
    const int32x4_t a = vreinterpretq_s32_s8(weight[2 * i].raw),
                    b = vreinterpretq_s32_s8(weight[2 * i + 1].raw);
    const int8x16_t w01 = vreinterpretq_s8_s32(vzip1q_s32(a, b)),
                    w23 = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    LINNET_FOR (r, kPairs) {
      const int8x16_t v = vcombine_s8(vld1_s8(x[2 * r]->q + at), vld1_s8(x[2 * r + 1]->q + at));
      low[r] = vmmlaq_s32(low[r], w01, v);
      high[r] = vmmlaq_s32(high[r], w23, v);
    }
    if constexpr (Rows % 2 != 0) {
      last = dot_i8(last, weight[2 * i], broadcast4(x[Rows - 1]->q + at));
      last = dot_i8(last, weight[2 * i + 1], broadcast4(x[Rows - 1]->q + at + 4));
    }
  }
  LINNET_FOR (r, kPairs) {
    out[2 * r] = VI32(vuzp1q_s32(low[r], high[r]));
    out[2 * r + 1] = VI32(vuzp2q_s32(low[r], high[r]));
  }
  if constexpr (Rows % 2 != 0) out[Rows - 1] = last;
}
#endif

// The integer dot products of a group, or of each half of it where the halves have scales of their own: for
// one part of the rows of each panel, or for all parts of one panel (kPartsTogether).
template <DType Type>
struct Block : BlockLayout<Type> {
  using At = BlockLayout<Type>;
  using Steps = BlockSteps<Type>;
  using Factors = BlockFactors<Type>;
  static constexpr DType kType = Type;
  static constexpr size_t kSteps = 8 / At::kHalves;  // vectors of codes of a half

  // What the codes' zero takes away: -kZero * sum(q) over half h.
  static HWY_INLINE VI32 bias(const ActivationGroup& x, size_t h) {
    constexpr int kZero = Steps::kZero;
    if constexpr (Steps::kSigned) {
      // -128 * sum(q), for the kinds of dot product that read signed bytes as unsigned.
      static_assert(At::kHalves == 1);
      return hn::ShiftLeft<4>(hn::Set(DI32(), x.bias8));
    } else if constexpr (kZero == 0) {
      return hn::Zero(DI32());
    } else if constexpr (At::kHalves == 1) {
      return hn::Set(DI32(), kZero == 8 ? x.bias8 : x.bias8 / 8 * kZero);
    } else {
      return hn::Set(DI32(), -kZero * x.half_sum[h]);
    }
  }

  // How many vectors of codes the narrowest sums (16 bits, two products each) hold.
  static constexpr size_t kSafeSteps = [] {
    size_t steps = kSteps;
    while (steps * 2 * static_cast<size_t>(Steps::kMost) * 127 > 32767) steps /= 2;
    return steps;
  }();

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void dot(const std::byte* w, size_t panel_stride, const ActivationGroup* const (&x)[Rows],
                             VI32 (&out)[At::kHalves][Panels][Rows]) {
    for_constants<At::kHalves>([&]<size_t H>() LINNET_INLINE {
#if LINNET_I8MM
      if constexpr (Rows > 1) {
        LINNET_FOR (p, Panels) {
          VI8 weight[kSteps];
          for_constants<kSteps>([&]<size_t I>() LINNET_INLINE {
            weight[I] = hn::BitCast(DI8(), Steps::template load<H * kSteps + I>(w + p * panel_stride));
          });
          dot_row_pairs<H * kSteps, kSteps, Rows>(weight, x, out[H][p]);
          if constexpr (!Steps::kSigned)
            LINNET_FOR (r, Rows) out[H][p][r] = hn::Add(out[H][p][r], bias(*x[r], H));
        }
        return;
      }
#endif
      if constexpr (Steps::kSigned)
        add_signed<H, Rows, Panels>(w, panel_stride, x, out[H]);
      else
        add_unsigned<H, Rows, Panels>(w, panel_stride, x, out[H]);
    });
  }

 private:
  template <size_t H, size_t Rows, size_t Panels>
  static HWY_INLINE void add_signed(const std::byte* w, size_t panel_stride,
                                    const ActivationGroup* const (&x)[Rows], VI32 (&out)[Panels][Rows]) {
    ByteDot::Accumulator acc[Panels][Rows];
    LINNET_FOR (r, Rows)
      LINNET_FOR (p, Panels) acc[p][r] = ByteDot::begin(bias(*x[r], H));
    for_constants<kSteps>([&]<size_t I>() LINNET_INLINE {
      ByteDot::Weight weight[Panels];
      LINNET_FOR (p, Panels)
        weight[p] =
            ByteDot::prepare(hn::BitCast(DI8(), Steps::template load<H * kSteps + I>(w + p * panel_stride)));
      LINNET_FOR (r, Rows) {
        const VI8 v = broadcast4(x[r]->q + 4 * (H * kSteps + I));
        LINNET_FOR (p, Panels) acc[p][r] = ByteDot::step(acc[p][r], weight[p], v);
      }
    });
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows) out[p][r] = ByteDot::end(acc[p][r]);
  }

  // Vectors I and I + 4 of codes come from the same bytes where there are four bits: they are taken together.
  static constexpr size_t in_turn(size_t i) { return kSteps == 8 && kSafeSteps == 8 ? i / 2 + i % 2 * 4 : i; }

  template <size_t H, size_t Rows, size_t Panels>
  static HWY_INLINE void add_unsigned(const std::byte* w, size_t panel_stride,
                                      const ActivationGroup* const (&x)[Rows], VI32 (&out)[Panels][Rows]) {
    LINNET_FOR (r, Rows)
      LINNET_FOR (p, Panels) out[p][r] = bias(*x[r], H);
    for_constants<kSteps / kSafeSteps>([&]<size_t C>() LINNET_INLINE {
      UnsignedDot::Accumulator acc[Panels][Rows];
      LINNET_FOR (r, Rows)
        LINNET_FOR (p, Panels) acc[p][r] = UnsignedDot::begin(out[p][r]);
      for_constants<kSafeSteps>([&]<size_t I>() LINNET_INLINE {
        constexpr size_t kAt = H * kSteps + in_turn(C * kSafeSteps + I);
        VU8 weight[Panels];
        LINNET_FOR (p, Panels) weight[p] = Steps::template load<kAt>(w + p * panel_stride);
        LINNET_FOR (r, Rows) {
          const VI8 v = broadcast4(x[r]->q + 4 * kAt);
          LINNET_FOR (p, Panels) acc[p][r] = UnsignedDot::step(acc[p][r], weight[p], v);
        }
      });
      LINNET_FOR (r, Rows)
        LINNET_FOR (p, Panels) out[p][r] = UnsignedDot::end(acc[p][r], out[p][r]);
    });
  }
};

template <class Block>
struct QuantizedTile {
  using Cursor = BlockCursor<Block::kType>;
  static size_t panel_bytes(int64_t k, int64_t segments) {
    return Block::bytes_of(group_count(k) * static_cast<size_t>(segments));
  }

  // Adds the products of one group. Parts one after another, or all at once as if they were panels of their
  // own: then an input is broadcast once for all of them.
  template <size_t Rows, size_t Panels>
  static HWY_INLINE void add_group(const Cursor& w, size_t panel_stride,
                                   const ActivationGroup* const (&row)[Rows],
                                   VF32 (&sum)[Panels][Rows][kParts]) {
    if constexpr (kPartsTogether) {
      LINNET_FOR (p, Panels) {
        VI32 dots[Block::kHalves][kParts][Rows];
        Block::template dot<Rows, kParts>(w.block + p * panel_stride + Block::kCodes, kVectorBytes, row,
                                          dots);
        LINNET_FOR (h, Block::kHalves)
          LINNET_FOR (r, Rows)
            LINNET_FOR (s, kParts)
              add_scaled(w, p * panel_stride, h, s, *row[r], dots[h][s][r], sum[p][r][s]);
      }
    } else {
      LINNET_FOR (s, kParts) {
        if constexpr (kParts > 1) forget_loads();
        VI32 dots[Block::kHalves][Panels][Rows];
        Block::template dot<Rows, Panels>(w.block + Block::kCodes + s * kVectorBytes, panel_stride, row,
                                          dots);
        LINNET_FOR (h, Block::kHalves)
          LINNET_FOR (p, Panels)
            LINNET_FOR (r, Rows) add_scaled(w, p * panel_stride, h, s, *row[r], dots[h][p][r], sum[p][r][s]);
      }
    }
  }

  static HWY_INLINE void add_scaled(const Cursor& w, size_t panel, size_t half, size_t s,
                                    const ActivationGroup& x, VI32 dots, VF32& sum) {
    using Factors = typename Block::Factors;
    add_scaled(
        [&](size_t i) HWY_ATTR {
          if constexpr (Block::kMinimum) {
            if (i == 1) return Factors::minimum(w.head + panel, w.factors + panel, half, s);
          }
          return Factors::scale(w.head + panel, w.factors + panel, half, s);
        },
        half, x, dots, sum);
  }
  // of(0) are the scales d_w, of(1) the minima m_w.
  template <class Scales>
  requires std::invocable<Scales, size_t>
  static HWY_INLINE void add_scaled(const Scales& of, size_t half, const ActivationGroup& x, VI32 dots,
                                    VF32& sum) {
    const VF32 scale = hn::Mul(of(0), hn::Set(DF32(), x.d));
    sum = hn::MulAdd(hn::ConvertTo(DF32(), dots), scale, sum);
    if constexpr (Block::kMinimum) {
      const float inputs = Block::kHalves == 1 ? x.sum : x.d * static_cast<float>(x.half_sum[half]);
      sum = hn::MulAdd(of(1), hn::Set(DF32(), inputs), sum);
    }
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* panel, size_t panel_stride, size_t segment, const std::byte* x,
                             size_t x_stride, int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    const size_t groups = group_count(k);
    const ActivationGroup* row[Rows];
    LINNET_FOR (r, Rows) row[r] = reinterpret_cast<const ActivationGroup*>(x + r * x_stride);
    Cursor w(panel, segment * groups);
    for (size_t g = 0; g < groups; ++g) {
      LINNET_FOR (p, Panels) prefetch_weights<Block::kBytes>(w.block + p * panel_stride);
      add_group<Rows, Panels>(w, panel_stride, row, sum);
      w.next();
      LINNET_FOR (r, Rows) ++row[r];
    }
  }

  // Adds the second terms to a tile that lies in y: group by group, with zeros for the rows that do not have
  // it. A zero changes no bit (a sum that began with +0 is never -0), so that a row's result does not depend
  // on its neighbours. Not inside run(): there it would take registers from the loop that matters.
  template <size_t Rows, size_t Panels>
  static HWY_NOINLINE void add_second_terms(const MatmulArgs& args, size_t panel_bytes, size_t panel,
                                            size_t row) {
    static constexpr ActivationGroup kZero{};
    constexpr int32_t kNone = INT32_MAX;
    const size_t groups = group_count(args.k), capacity = refined_capacity(args.k, args.refine);
    const auto* x = static_cast<const std::byte*>(args.x) + row * args.x_stride;
    const int32_t* index[Rows];
    const int32_t* end[Rows];
    const ActivationGroup* second[Rows];
    int32_t next = kNone;
    LINNET_FOR (r, Rows) {
      const auto* list = x + r * args.x_stride + groups * sizeof(ActivationGroup);
      index[r] = reinterpret_cast<const int32_t*>(list) + 1;
      end[r] = index[r] + index[r][-1];
      second[r] = reinterpret_cast<const ActivationGroup*>(list + refined_list_bytes(capacity));
      if (index[r] < end[r] && *index[r] < next) next = *index[r];
    }
    if (next == kNone) return;
    VF32 sum[Panels][Rows][kParts];
    float* const y = args.y + row * static_cast<size_t>(args.y_stride);
    const auto at = [&](size_t p, size_t r) {
      return y + r * static_cast<size_t>(args.y_stride) + (panel + p) * kPanel;
    };
    const auto columns = [&](size_t p) { return static_cast<size_t>(args.n) - (panel + p) * kPanel; };
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows) load_panel(at(p, r), columns(p), sum[p][r]);
    while (next != kNone) {
      const int32_t g = next;
      const ActivationGroup* group[Rows];
      next = kNone;
      LINNET_FOR (r, Rows) {
        const bool has = index[r] < end[r] && *index[r] == g;
        group[r] = has ? second[r] : &kZero;
        if (has) ++index[r], ++second[r];
        if (index[r] < end[r] && *index[r] < next) next = *index[r];
      }
      add_group<Rows, Panels>(Cursor(args.weights + panel * panel_bytes, static_cast<size_t>(g)), panel_bytes,
                              group, sum);
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows) store_panel(sum[p][r], columns(p), at(p, r));
  }
};

}  // namespace
}  // namespace linnet::cpu
