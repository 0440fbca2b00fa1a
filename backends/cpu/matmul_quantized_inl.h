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

#include "backends/cpu/dot_inl.h"
#include "backends/cpu/matmul.h"
#include "backends/cpu/matmul_tile_inl.h"
#include "format/panel_layout.h"

namespace linnet::cpu {
namespace {

HWY_INLINE VI8 broadcast4(const int8_t* q) {
  int32_t word;
  __builtin_memcpy(&word, q, 4);
  return hn::BitCast(DI8(), hn::Set(DI32(), word));
}

#if LINNET_I8MM
// Rows of x two by two: an operation multiplies 8 inputs of two rows of the panel with those of two rows of
// x. weight[i] holds inputs 4 i .. 4 i + 3 of the four rows of one part; exact, as every other way.
template <size_t Rows>
HWY_INLINE void dot_row_pairs(const VI8 (&weight)[8], const ActivationGroup* const (&x)[Rows],
                              VI32 (&out)[Rows]) {
  constexpr size_t kPairs = Rows / 2;
  int32x4_t low[kPairs], high[kPairs];  // rows 0 and 1, and 2 and 3, of the panel's part
  VI32 last = hn::Zero(DI32());
  LINNET_FOR (r, kPairs) low[r] = high[r] = vdupq_n_s32(0);
  LINNET_FOR (i, 4) {
    const int32x4_t a = vreinterpretq_s32_s8(weight[2 * i].raw),
                    b = vreinterpretq_s32_s8(weight[2 * i + 1].raw);
    const int8x16_t w01 = vreinterpretq_s8_s32(vzip1q_s32(a, b)),
                    w23 = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    LINNET_FOR (r, kPairs) {
      const int8x16_t v = vcombine_s8(vld1_s8(x[2 * r]->q + 8 * i), vld1_s8(x[2 * r + 1]->q + 8 * i));
      low[r] = vmmlaq_s32(low[r], w01, v);
      high[r] = vmmlaq_s32(high[r], w23, v);
    }
    if constexpr (Rows % 2 != 0) {
      last = dot_i8(last, weight[2 * i], broadcast4(x[Rows - 1]->q + 8 * i));
      last = dot_i8(last, weight[2 * i + 1], broadcast4(x[Rows - 1]->q + 8 * i + 4));
    }
  }
  LINNET_FOR (r, kPairs) {
    out[2 * r] = VI32(vuzp1q_s32(low[r], high[r]));
    out[2 * r + 1] = VI32(vuzp2q_s32(low[r], high[r]));
  }
  if constexpr (Rows % 2 != 0) out[Rows - 1] = last;
}
#endif

// What the tiles know of a block format: where its parts lie, as format/panel_layout.h has it.
template <DType Type>
struct BlockLayout {
  static constexpr size_t kScales = format::panel_block(Type).scales;
  static constexpr size_t kMinima = format::panel_block(Type).minima;
  static constexpr size_t kCodes = format::panel_block(Type).codes;
  static constexpr size_t kBytes = format::panel_block(Type).bytes;
  static constexpr bool kMinimum = has_minimum(Type);
  static_assert(info_of(Type).group == kGroupSize && info_of(Type).scale == FactorKind::kF16 &&
                    (!kMinimum || info_of(Type).minimum == FactorKind::kF16),
                "the kernels of this kind of scales are to be written");
};

// Codes of one width: the integer dot products of a group, for one part of the rows of each panel, or for all
// parts of one panel (kPartsTogether).
template <DType Type>
struct BlockBytes : BlockLayout<Type> {
  static_assert(info_of(Type).codes == CodeKind::kSigned && info_of(Type).zero == 0);

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void dot(const std::byte* w, size_t panel_stride, const ActivationGroup* const (&x)[Rows],
                             VI32 (&out)[Panels][Rows]) {
#if LINNET_I8MM
    if constexpr (Rows > 1) {
      LINNET_FOR (p, Panels) {
        VI8 weight[8];
        LINNET_FOR (i, 8) weight[i] = hn::BitCast(DI8(), load_bytes(w + p * panel_stride + i * 64));
        dot_row_pairs<Rows>(weight, x, out[p]);
      }
      return;
    }
#endif
    ByteDot::Accumulator acc[Panels][Rows];
    LINNET_FOR (r, Rows) {
      const VI32 bias = hn::Set(DI32(), x[r]->bias128);
      LINNET_FOR (p, Panels) acc[p][r] = ByteDot::begin(bias);
    }
    LINNET_FOR (i, 8) {
      ByteDot::Weight weight[Panels];
      LINNET_FOR (p, Panels)
        weight[p] = ByteDot::prepare(hn::BitCast(DI8(), load_bytes(w + p * panel_stride + i * 64)));
      LINNET_FOR (r, Rows) {
        const VI8 v = broadcast4(x[r]->q + 4 * i);
        LINNET_FOR (p, Panels) acc[p][r] = ByteDot::step(acc[p][r], weight[p], v);
      }
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows) out[p][r] = ByteDot::end(acc[p][r]);
  }
};

template <DType Type>
struct BlockNibbles : BlockLayout<Type> {
  static constexpr int kZero = info_of(Type).zero;
  static_assert(info_of(Type).codes == CodeKind::kUnsigned);

  // What the codes' zero takes away: -kZero * sum(q).
  static HWY_INLINE VI32 bias(const ActivationGroup& x) {
    if constexpr (kZero == 0) return hn::Zero(DI32());
    return hn::Set(DI32(), kZero == 8 ? x.bias8 : x.bias8 / 8 * kZero);
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void dot(const std::byte* w, size_t panel_stride, const ActivationGroup* const (&x)[Rows],
                             VI32 (&out)[Panels][Rows]) {
    const VU8 mask = hn::Set(DU8(), uint8_t{15});
#if LINNET_I8MM
    if constexpr (Rows > 1) {
      LINNET_FOR (p, Panels) {
        VI8 weight[8];
        LINNET_FOR (i, 4) {
          const VU8 pair = load_bytes(w + p * panel_stride + i * 64);
          weight[i] = hn::BitCast(DI8(), hn::And(pair, mask));
          weight[4 + i] = hn::BitCast(DI8(), hn::ShiftRight<4>(pair));
        }
        dot_row_pairs<Rows>(weight, x, out[p]);
        LINNET_FOR (r, Rows) out[p][r] = hn::Add(out[p][r], bias(*x[r]));
      }
      return;
    }
#endif
    NibbleDot::Accumulator acc[Panels][Rows];
    LINNET_FOR (r, Rows)
      LINNET_FOR (p, Panels) acc[p][r] = NibbleDot::begin(bias(*x[r]));
    LINNET_FOR (i, 4) {
      VU8 low[Panels], high[Panels];
      LINNET_FOR (p, Panels) {
        const VU8 pair = load_bytes(w + p * panel_stride + i * 64);
        low[p] = hn::And(pair, mask);
        high[p] = hn::ShiftRight<4>(pair);
      }
      LINNET_FOR (r, Rows) {
        const VI8 v0 = broadcast4(x[r]->q + 4 * i);
        LINNET_FOR (p, Panels) acc[p][r] = NibbleDot::step(acc[p][r], low[p], v0);
        const VI8 v1 = broadcast4(x[r]->q + 16 + 4 * i);
        LINNET_FOR (p, Panels) acc[p][r] = NibbleDot::step(acc[p][r], high[p], v1);
      }
    }
    LINNET_FOR (r, Rows)
      LINNET_FOR (p, Panels) out[p][r] = NibbleDot::end(acc[p][r], bias(*x[r]));
  }
};

// By the width of codes. A width that is not here has no kernel: it does not compile.
template <DType Type, size_t Bits = code_bits(Type)>
struct BlockOfWidth;
template <DType Type>
struct BlockOfWidth<Type, 8> {
  using Block = BlockBytes<Type>;
};
template <DType Type>
struct BlockOfWidth<Type, 4> {
  using Block = BlockNibbles<Type>;
};
template <DType Type>
using BlockOf = typename BlockOfWidth<Type>::Block;

template <class Block>
struct QuantizedTile {
  static size_t panel_bytes(int64_t k) { return group_count(k) * Block::kBytes; }

  // Adds the products of one group. Parts one after another, or all at once as if they were panels of their
  // own: then an input is broadcast once for all of them.
  template <size_t Rows, size_t Panels>
  static HWY_INLINE void add_group(const std::byte* w, size_t panel_stride,
                                   const ActivationGroup* const (&row)[Rows],
                                   VF32 (&sum)[Panels][Rows][kParts]) {
    if constexpr (kPartsTogether) {
      LINNET_FOR (p, Panels) {
        VI32 dots[kParts][Rows];
        Block::template dot<Rows, kParts>(w + p * panel_stride + Block::kCodes, kVectorBytes, row, dots);
        LINNET_FOR (r, Rows)
          LINNET_FOR (s, kParts)
            add_scaled(w + p * panel_stride + s * kLanes * 2, *row[r], dots[s][r], sum[p][r][s]);
      }
    } else {
      LINNET_FOR (s, kParts) {
        if constexpr (kParts > 1) forget_loads();
        VI32 dots[Panels][Rows];
        Block::template dot<Rows, Panels>(w + Block::kCodes + s * kVectorBytes, panel_stride, row, dots);
        LINNET_FOR (p, Panels)
          LINNET_FOR (r, Rows)
            add_scaled(w + p * panel_stride + s * kLanes * 2, *row[r], dots[p][r], sum[p][r][s]);
      }
    }
  }

  // `block` is moved on by the scales of the parts before.
  static HWY_INLINE void add_scaled(const std::byte* block, const ActivationGroup& x, VI32 dots, VF32& sum) {
    add_scaled([&](size_t i)
                   HWY_ATTR { return load_halfs(block + (i == 0 ? Block::kScales : Block::kMinima)); },
               x, dots, sum);
  }
  // of(0) are the scales d_w, of(1) the minima m_w.
  template <class Scales>
  requires std::invocable<Scales, size_t>
  static HWY_INLINE void add_scaled(const Scales& of, const ActivationGroup& x, VI32 dots, VF32& sum) {
    const VF32 scale = hn::Mul(of(0), hn::Set(DF32(), x.d));
    sum = hn::MulAdd(hn::ConvertTo(DF32(), dots), scale, sum);
    if constexpr (Block::kMinimum) sum = hn::MulAdd(of(1), hn::Set(DF32(), x.sum), sum);
  }

  template <size_t Rows, size_t Panels>
  static HWY_INLINE void run(const std::byte* w, size_t panel_stride, const std::byte* x, size_t x_stride,
                             int64_t k, VF32 (&sum)[Panels][Rows][kParts]) {
    const size_t groups = group_count(k);
    const ActivationGroup* row[Rows];
    LINNET_FOR (r, Rows) row[r] = reinterpret_cast<const ActivationGroup*>(x + r * x_stride);
    for (size_t g = 0; g < groups; ++g) {
      LINNET_FOR (p, Panels) prefetch_weights<Block::kBytes>(w + p * panel_stride);
      add_group<Rows, Panels>(w, panel_stride, row, sum);
      w += Block::kBytes;
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
      add_group<Rows, Panels>(args.weights + panel * panel_bytes + static_cast<size_t>(g) * Block::kBytes,
                              panel_bytes, group, sum);
    }
    LINNET_FOR (p, Panels)
      LINNET_FOR (r, Rows) store_panel(sum[p][r], columns(p), at(p, r));
  }
};

}  // namespace
}  // namespace linnet::cpu
