// What the kernels of one instruction set read of a block format (format/panel.h): where its parts lie, its
// codes as bytes, its scales and minima as floats. A format of another width of codes or kind of scales is a
// case here.
#pragma once

#include "backends/cpu/dot_inl.h"
#include "backends/cpu/matmul_tile_inl.h"
#include "format/panel_layout.h"

namespace linnet::cpu {
namespace {

// Where the parts of a panel lie. (The functions of panel_layout.h are for constants alone: one that was
// compiled with this file's flags could come to serve everybody.)
template <DType Type>
struct BlockLayout {
  static constexpr DTypeInfo kInfo = info_of(Type);
  static constexpr size_t kMinima = format::panel_block(Type).minima,
                          kCodes = format::panel_block(Type).codes, kBytes = format::panel_block(Type).bytes;
  static constexpr size_t kHeadBytes = format::panel_head_bytes(Type);
  static constexpr size_t kHeadHalves = format::head_halves_bytes(Type);
  static constexpr size_t kFactorBytes = format::panel_factor_bytes(Type);
  static constexpr bool kRowScales = format::has_row_scales(Type);  // one head, before all blocks
  static constexpr bool kHeads = kHeadBytes > 0 && !kRowScales;     // one before every super-block
  static constexpr size_t kHalves = scales_of_32(Type);
  static constexpr bool kMinimum = has_minimum(Type);

  static constexpr size_t head_at(size_t group) {
    return kHeads ? group / format::kBlocksOfSuper * (format::kBlocksOfSuper * kBytes + kHeadBytes) : 0;
  }
  static constexpr size_t block_at(size_t group) {
    return group * kBytes + (kHeads ? group / format::kBlocksOfSuper + 1 : 1) * kHeadBytes;
  }
  static constexpr size_t bytes_of(size_t groups) { return block_at(groups - 1) + kBytes; }
};

// Moves through the groups of a panel: the head that counts for one, its scales and minima, its block.
template <DType Type>
struct BlockCursor {
  using At = BlockLayout<Type>;
  const std::byte *head, *factors, *block;
  size_t group;
  HWY_INLINE BlockCursor(const std::byte* panel, size_t first)
      : head(panel + At::head_at(first)), block(panel + At::block_at(first)), group(first) {
    factors = block;
    if constexpr (At::kHeads)
      factors = head + At::kHeadHalves + first % format::kBlocksOfSuper * At::kFactorBytes;
  }
  HWY_INLINE void next() {
    block += At::kBytes;
    if constexpr (!At::kHeads) {
      factors = block;
    } else if (++group % format::kBlocksOfSuper != 0) {
      factors += At::kFactorBytes;
    } else {
      head = block;
      factors = head + At::kHeadHalves;
      block += At::kHeadBytes;
    }
  }
};

// ---- codes ------------------------------------------------------------------------------------------------

// On the lambdas of for_constants(): left to itself GCC keeps some as calls, and the sums in memory.
#define LINNET_INLINE HWY_ATTR __attribute__((always_inline))

// f<0>() ... f<Count - 1>(): loops whose index is a constant.
template <size_t Count, size_t Index = 0, class Function>
HWY_INLINE void for_constants(const Function& f) {
  if constexpr (Index < Count) {
    f.template operator()<Index>();
    for_constants<Count, Index + 1>(f);
  }
}

// The bits Mask << From of every byte, moved to Mask << To.
template <size_t From, size_t To, uint8_t Mask>
HWY_INLINE VU8 move_bits(VU8 v) {
  const hn::RepartitionToWide<DU8>
      d16;  // there are no shifts of bytes; what comes from the next one is masked out
  if constexpr (From > To) v = hn::BitCast(DU8(), hn::ShiftRight<From - To>(hn::BitCast(d16, v)));
  if constexpr (From < To) v = hn::BitCast(DU8(), hn::ShiftLeft<To - From>(hn::BitCast(d16, v)));
  return hn::And(v, hn::Set(DU8(), static_cast<uint8_t>(Mask << To)));
}

// The codes of inputs 4 I .. 4 I + 3, a byte each. `codes` is moved on by the parts of the rows before.
template <size_t Bits, size_t I>
HWY_INLINE VU8 load_codes(const std::byte* codes) {
  constexpr size_t kVector = 64;
  if constexpr (Bits == 8) {
    return load_bytes(codes + I * kVector);
  } else if constexpr (Bits == 2) {
    return move_bits<I % 4 * 2, 0, 3>(load_bytes(codes + I / 4 * kVector));
  } else if constexpr (Bits == 3) {
    return hn::Or(load_codes<2, I>(codes), move_bits<I, 2, 1>(load_bytes(codes + 2 * kVector)));
  } else if constexpr (Bits == 4) {
    return move_bits<I / 4 * 4, 0, 15>(load_bytes(codes + I % 4 * kVector));
  } else if constexpr (Bits == 5) {
    return hn::Or(load_codes<4, I>(codes), move_bits<I, 4, 1>(load_bytes(codes + 4 * kVector)));
  } else {
    static_assert(Bits == 6, "codes of this width are to be written");
    const VU8 high = load_bytes(codes + (4 + I % 4 / 2) * kVector);
    return hn::Or(load_codes<4, I>(codes), move_bits<I / 4 * 4 + I % 2 * 2, 4, 3>(high));
  }
}

// Steps as unsigned bytes of at most kMost with kZero in the place of 0, or (kSigned) as signed ones.
template <DType Type>
struct BlockSteps {
  static constexpr DTypeInfo kInfo = info_of(Type);
  static constexpr bool kTable = is_table(kInfo.codes);
  static constexpr bool kSigned = kInfo.codes == CodeKind::kSigned || kInfo.codes == CodeKind::kIq4;
  static constexpr int kE2M1Zero = 12;  // what makes the steps of kE2M1 unsigned
  static constexpr int kZero = kSigned ? 0 : kInfo.codes == CodeKind::kE2M1 ? kE2M1Zero : kInfo.zero;
  static constexpr int kMost = kInfo.codes == CodeKind::kE2M1 ? 2 * kE2M1Zero : (1 << kInfo.bits) - 1;

  template <size_t I>
  static HWY_INLINE VU8 load(const std::byte* codes) {
    const VU8 code = load_codes<kInfo.bits, I>(codes);
    if constexpr (kTable) {
      return hn::TableLookupBytes(hn::LoadDup128(DU8(), kSteps.bytes), code);
    } else {
      return code;
    }
  }

 private:
  struct Table {
    alignas(16) uint8_t bytes[16] = {};
  };
  static constexpr Table kSteps = [] {
    Table table;
    if constexpr (kTable)
      for (size_t i = 0; i < 16; ++i)
        table.bytes[i] = static_cast<uint8_t>(steps_of_table(kInfo.codes)[i] + kZero);
    return table;
  }();
};

// ---- scales and minima ------------------------------------------------------------------------------------

using DBytes = hn::Rebind<uint8_t, DI32>;
// A byte for each row of part s, of 16.
HWY_INLINE VI32 row_bytes(const std::byte* p, size_t s) {
  return hn::PromoteTo(DI32(), hn::LoadU(DBytes(), reinterpret_cast<const uint8_t*>(p) + s * kLanes));
}
// Four bits for each row of part s, of 16: of row r in the low half of byte r, of row r + 8 in its high half.
HWY_INLINE VI32 row_nibbles(const std::byte* p, [[maybe_unused]] size_t s) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(p);
#if LINNET_WIDE
  const hn::Half<DI32> half;
  const auto both = hn::PromoteTo(half, hn::LoadU(hn::Rebind<uint8_t, hn::Half<DI32>>(), bytes));
  const VI32 v = hn::Combine(DI32(), hn::ShiftRight<4>(both), both);
  return hn::And(v, hn::Set(DI32(), 15));
#else
  const VI32 v = hn::PromoteTo(DI32(), hn::LoadU(DBytes(), bytes + s * kLanes % 8));
  return s * kLanes < 8 ? hn::And(v, hn::Set(DI32(), 15)) : hn::ShiftRight<4>(v);
#endif
}
// Two bits for each row of part s, of 16: of rows r, r + 4, r + 8, r + 12 in byte r, the lowest first.
HWY_INLINE VI32 row_pairs_of_bits(const std::byte* p, size_t s) {
  struct Places {
    alignas(64) uint32_t shift[16];
  };
  static constexpr Places kAt = [] {
    Places at{};
    for (uint32_t r = 0; r < 16; ++r) at.shift[r] = r % 4 * 8 + r / 4 * 2;
    return at;
  }();
  const hn::RebindToUnsigned<DI32> du;
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  const auto moved = hn::Shr(hn::Set(du, word), hn::Load(du, kAt.shift + s * kLanes));
  return hn::And(hn::BitCast(DI32(), moved), hn::Set(DI32(), 3));
}

// What a block has for the rows of part s: `head` and `block` are a BlockCursor's head and factors, half 0
// or 1.
template <DType Type>
struct BlockFactors {
  using At = BlockLayout<Type>;
  static constexpr FactorKind kScale = info_of(Type).scale, kLeast = info_of(Type).minimum;

  static HWY_INLINE VF32 scale(const std::byte* head, const std::byte* block, size_t half, size_t s) {
    const size_t halfs = s * kLanes * 2;  // bytes before this part in a list of f16
    if constexpr (kScale == FactorKind::kF16) {
      return load_halfs(block + halfs);
    } else if constexpr (kScale == FactorKind::kE8M0) {
      // The bits of a float, 2^(e - 127), halved; 255 becomes an infinity, what would be subnormal may be
      // taken as zero.
      const VF32 power = hn::BitCast(DF32(), hn::ShiftLeft<23>(row_bytes(block, s)));
      return hn::Mul(power, hn::Set(DF32(), 0.5f));
    } else if constexpr (kScale == FactorKind::kE4M3) {
      // As the bits of an f16 they are 2^-8 of the number, subnormal ones too.
      const hn::Rebind<uint16_t, DF32> d16;
      const hn::Rebind<hwy::float16_t, DF32> dh;
      const auto* bytes = reinterpret_cast<const uint8_t*>(block + half * 16) + s * kLanes;
      const auto bits = hn::ShiftLeft<7>(hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, DF32>(), bytes)));
      const VF32 number = hn::Mul(hn::PromoteTo(DF32(), hn::BitCast(dh, bits)), hn::Set(DF32(), 128.0f));
      return hn::Mul(number, hn::LoadU(DF32(), reinterpret_cast<const float*>(head) + s * kLanes));
    } else if constexpr (kScale == FactorKind::kSuper) {
      return load_halfs(head + halfs);
    } else {
      return hn::Mul(load_halfs(head + halfs), hn::ConvertTo(DF32(), factor(block, half, s)));
    }
  }

  static HWY_INLINE VF32 minimum(const std::byte* head, const std::byte* block, size_t half, size_t s) {
    const size_t halfs = s * kLanes * 2;
    if constexpr (kLeast == FactorKind::kF16) {
      return load_halfs(block + At::kMinima + halfs);
    } else {
      const VF32 own = hn::ConvertTo(DF32(), least(block, half, s));
      return hn::Neg(hn::Mul(load_halfs(head + 32 + halfs), own));
    }
  }

 private:
  // Of two numbers of six bits.
  static HWY_INLINE VI32 first_of_pair(const std::byte* block, size_t s) {
    const VI32 low = row_bytes(block, s), high = row_nibbles(block + 16, s);
    return hn::Or(hn::And(low, hn::Set(DI32(), 15)), hn::ShiftLeft<4>(hn::And(high, hn::Set(DI32(), 3))));
  }
  static HWY_INLINE VI32 second_of_pair(const std::byte* block, size_t s) {
    const VI32 low = row_bytes(block, s), high = row_nibbles(block + 16, s);
    return hn::Or(hn::ShiftRight<4>(low), hn::ShiftLeft<4>(hn::ShiftRight<2>(high)));
  }
  static HWY_INLINE VI32 factor(const std::byte* block, size_t half, size_t s) {
    if constexpr (kScale == FactorKind::kSuper4) {
      return hn::And(row_bytes(block + half * 16, s), hn::Set(DI32(), 15));
    } else if constexpr (kScale == FactorKind::kSuper6) {
      return first_of_pair(block, s);
    } else if constexpr (kScale == FactorKind::kSuperSigned8) {
      const hn::Rebind<int8_t, DI32> d8;
      const auto* p = reinterpret_cast<const int8_t*>(block + half * 16) + s * kLanes;
      return hn::PromoteTo(DI32(), hn::LoadU(d8, p));
    } else {
      static_assert(kScale == FactorKind::kSuperSigned6, "scales of this kind are to be written");
      const VI32 zero = hn::Set(DI32(), 32);
      if constexpr (At::kHalves == 2) {
        return hn::Sub(half == 0 ? first_of_pair(block, s) : second_of_pair(block, s), zero);
      } else {
        const VI32 low = row_nibbles(block, s), high = row_pairs_of_bits(block + 8, s);
        return hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), zero);
      }
    }
  }
  static HWY_INLINE VI32 least(const std::byte* block, size_t half, size_t s) {
    if constexpr (kLeast == FactorKind::kSuper4) {
      return hn::ShiftRight<4>(row_bytes(block + half * 16, s));
    } else {
      static_assert(kLeast == FactorKind::kSuper6, "minima of this kind are to be written");
      return second_of_pair(block, s);
    }
  }
};

}  // namespace
}  // namespace linnet::cpu
