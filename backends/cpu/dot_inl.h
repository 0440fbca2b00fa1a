// Int8 dot products per 32-bit lane, four inputs at a time: the one place with raw intrinsics, because the
// packaged Highway has no such operation. Included once per instruction-set file, which the build compiles
// with that set's flags; what the compiler then defines selects the implementation.
//
// Besides, where there are such: dot products of bf16 pairs, and LINNET_I8MM for int8 products of 2 x 8
// matrices.
//
// Both kinds have the same three steps, so that a kernel is written once:
//   begin(bias)      an accumulator; `bias` is -128 * sum(x) for ByteDot, for UnsignedDot what it begins with
//
//   step(acc, w, x)  adds w . x of each lane; w from prepare() or 0..63, x the same four inputs in each lane
//
//   end(acc, bias)   int32 per lane
#pragma once

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

namespace linnet::cpu {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// 64 bytes of weights are 16 rows x 4 inputs; a vector holds one part of the rows.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define LINNET_WIDE 1  // 512-bit vectors
inline constexpr size_t kVectorBytes = 64;
#elif HWY_TARGET == HWY_AVX2
#define LINNET_WIDE 0
inline constexpr size_t kVectorBytes = 32;
#else
#define LINNET_WIDE 0
inline constexpr size_t kVectorBytes = 16;
#endif
// AVX2 and its maddubs, no VNNI.
#if HWY_TARGET == HWY_AVX2 && !defined(__AVXVNNI__)
#define LINNET_PLAIN_AVX2 1
#else
#define LINNET_PLAIN_AVX2 0
#endif
inline constexpr size_t kParts = 64 / kVectorBytes;
inline constexpr size_t kLanes = kVectorBytes / 4;

using DI8 = hn::CappedTag<int8_t, kVectorBytes>;
using DU8 = hn::CappedTag<uint8_t, kVectorBytes>;
using DI16 = hn::CappedTag<int16_t, kVectorBytes / 2>;
using DI32 = hn::CappedTag<int32_t, kLanes>;
using DF32 = hn::CappedTag<float, kLanes>;
using VI8 = hn::Vec<DI8>;
using VU8 = hn::Vec<DU8>;
using VI16 = hn::Vec<DI16>;
using VI32 = hn::Vec<DI32>;
using VF32 = hn::Vec<DF32>;

// Pairs of bf16 per 32-bit lane: acc + w0 x0 + w1 x1, every product and sum rounded to f32.
#if LINNET_WIDE && defined(__AVX512BF16__)
#define LINNET_BF16_PAIRS 1
HWY_INLINE VF32 dot_bf16(VF32 acc, VU8 w, VI32 x) {
  return VF32{_mm512_dpbf16_ps(acc.raw, (__m512bh)w.raw, (__m512bh)x.raw)};
}
HWY_INLINE void store_rounded(VF32 v, uint32_t* pairs) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs), (__m256i)_mm512_cvtneps_pbh(v.raw));
}
#elif HWY_ARCH_ARM_A64 && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define LINNET_BF16_PAIRS 1
HWY_INLINE VF32 dot_bf16(VF32 acc, VU8 w, VI32 x) {
  return VF32(vbfdotq_f32(acc.raw, vreinterpretq_bf16_u8(w.raw), vreinterpretq_bf16_s32(x.raw)));
}
HWY_INLINE void store_rounded(VF32 v, uint32_t* pairs) {
  vst1_u32(pairs, vreinterpret_u32_bf16(vcvt_bf16_f32(v.raw)));
}
#else
#define LINNET_BF16_PAIRS 0
#endif

#if HWY_ARCH_ARM_A64 && defined(__ARM_FEATURE_MATMUL_INT8)
#define LINNET_I8MM 1
#else
#define LINNET_I8MM 0
#endif

// The nearest integer, ties to even, of values that int32 holds (Highway's NearestInt takes care of others
// too).
HWY_INLINE VI32 nearest_in_range(VF32 v) {
#if HWY_ARCH_X86 && LINNET_WIDE
  return VI32{_mm512_cvtps_epi32(v.raw)};
#elif HWY_TARGET == HWY_AVX2
  return VI32{_mm256_cvtps_epi32(v.raw)};
#else
  return hn::NearestInt(v);
#endif
}

// 32 integers of 8 bits, in order.
HWY_INLINE void store_as_bytes(const VI32 (&v)[32 / kLanes], int8_t* out) {
#if HWY_TARGET == HWY_AVX2
  const __m256i low = _mm256_packs_epi32(v[0].raw, v[1].raw), high = _mm256_packs_epi32(v[2].raw, v[3].raw);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing went by halves of a register
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
#else
  const hn::Rebind<int8_t, DI32> bytes;
  for (size_t i = 0; i < 32 / kLanes; ++i) hn::StoreU(hn::DemoteTo(bytes, v[i]), bytes, out + i * kLanes);
#endif
}

// Keeps a value in a register at this point of the program. Compilers reassociate integer sums into trees and
// then spill the branches; they cannot look through this.
template <class Vector>
HWY_INLINE void keep(Vector& v) {
#if HWY_ARCH_X86
  __asm__ volatile("" : "+v"(v.raw));
#else
  __asm__ volatile("" : "+w"(v.raw));
#endif
}

// Values loaded before this are loaded again after it, instead of waiting in a spill slot.
HWY_INLINE void forget_loads() { __asm__ volatile("" ::: "memory"); }

#if (LINNET_WIDE && defined(__AVX512VNNI__)) || (HWY_TARGET == HWY_AVX2 && defined(__AVXVNNI__))

HWY_INLINE VI32 dot_u8_i8(VI32 acc, VU8 w, VI8 x) {
#if LINNET_WIDE
  return VI32{_mm512_dpbusd_epi32(acc.raw, w.raw, x.raw)};
#else
  return VI32{_mm256_dpbusd_avx_epi32(acc.raw, w.raw, x.raw)};
#endif
}

// The bare operation, for the probe of the machine's peak.
HWY_INLINE VI32 raw_dot(VI32 acc, VU8 w, VI8 x) { return dot_u8_i8(acc, w, x); }

// The instruction takes one operand as unsigned: weights + 128, and begin() takes 128 * sum(x) back.
struct ByteDot {
  using Accumulator = VI32;
  using Weight = VU8;
  static HWY_INLINE Weight prepare(VI8 w) {
    return hn::Xor(hn::BitCast(DU8(), w), hn::Set(DU8(), uint8_t{0x80}));
  }
  static HWY_INLINE Accumulator begin(VI32 bias) { return bias; }
  static HWY_INLINE Accumulator step(Accumulator acc, Weight w, VI8 x) { return dot_u8_i8(acc, w, x); }
  static HWY_INLINE VI32 end(Accumulator acc) { return acc; }
};

struct UnsignedDot {
  using Accumulator = VI32;
  static HWY_INLINE Accumulator begin(VI32 bias) { return bias; }
  static HWY_INLINE Accumulator step(Accumulator acc, VU8 w, VI8 x) { return dot_u8_i8(acc, w, x); }
  static HWY_INLINE VI32 end(Accumulator acc, VI32 /*bias*/) { return acc; }
};

#elif HWY_ARCH_X86

#if LINNET_WIDE
HWY_INLINE VI16 multiply_pairs(VU8 w, VI8 x) { return VI16{_mm512_maddubs_epi16(w.raw, x.raw)}; }
HWY_INLINE VI32 add_pairs(VI16 v) { return VI32{_mm512_madd_epi16(v.raw, _mm512_set1_epi16(1))}; }
// x with the sign of w: where w < 0, 0 - x.
HWY_INLINE VI8 apply_sign(VI8 x, VI8 w) {
  return VI8{_mm512_mask_sub_epi8(x.raw, _mm512_movepi8_mask(w.raw), _mm512_setzero_si512(), x.raw)};
}
#else
HWY_INLINE VI16 multiply_pairs(VU8 w, VI8 x) { return VI16{_mm256_maddubs_epi16(w.raw, x.raw)}; }
HWY_INLINE VI32 add_pairs(VI16 v) { return VI32{_mm256_madd_epi16(v.raw, _mm256_set1_epi16(1))}; }
HWY_INLINE VI8 apply_sign(VI8 x, VI8 w) { return VI8{_mm256_sign_epi8(x.raw, w.raw)}; }
#endif

// |w| * (x with the sign of w): |w| <= 128 as unsigned and |x| <= 127, so a pair's sum fits 16 bits.
struct ByteDot {
  using Accumulator = VI32;
  struct Weight {
    VU8 magnitude;
    VI8 sign;
  };
  static HWY_INLINE Weight prepare(VI8 w) { return {hn::BitCast(DU8(), hn::Abs(w)), w}; }
  static HWY_INLINE Accumulator begin(VI32 /*bias*/) { return hn::Zero(DI32()); }
  static HWY_INLINE Accumulator step(Accumulator acc, const Weight& w, VI8 x) {
    acc = hn::Add(acc, add_pairs(multiply_pairs(w.magnitude, apply_sign(x, w.sign))));
    keep(acc);
    return acc;
  }
  static HWY_INLINE VI32 end(Accumulator acc) { return acc; }
};

// The bare operation without the sign's transfer, for the probe of the machine's peak.
HWY_INLINE VI32 raw_dot(VI32 acc, const ByteDot::Weight& w, VI8 x) {
  return hn::Add(acc, add_pairs(multiply_pairs(w.magnitude, x)));
}

// Sums of 16 bits, widened at the end: the caller ends them before they overflow (of codes of four bits a
// whole group fits: 8 steps x 2 products x 15 x 127 = 30480).
struct UnsignedDot {
  using Accumulator = VI16;
  static HWY_INLINE Accumulator begin(VI32 /*bias*/) { return hn::Zero(DI16()); }
  static HWY_INLINE Accumulator step(Accumulator acc, VU8 w, VI8 x) {
    acc = hn::Add(acc, multiply_pairs(w, x));
    keep(acc);
    return acc;
  }
  static HWY_INLINE VI32 end(Accumulator acc, VI32 bias) { return hn::Add(add_pairs(acc), bias); }
};

#elif HWY_ARCH_ARM_A64

#if defined(__ARM_FEATURE_DOTPROD)
HWY_INLINE VI32 dot_i8(VI32 acc, VI8 w, VI8 x) { return VI32(vdotq_s32(acc.raw, w.raw, x.raw)); }
#else
// Products of the low and of the high eight bytes fit 16 bits; pairwise additions bring four to each lane.
HWY_INLINE VI32 dot_i8(VI32 acc, VI8 w, VI8 x) {
  const int16x8_t low = vmull_s8(vget_low_s8(w.raw), vget_low_s8(x.raw));
  const int16x8_t high = vmull_high_s8(w.raw, x.raw);
  return VI32(vaddq_s32(acc.raw, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))));
}
#endif

// The bare operation, for the probe of the machine's peak.
HWY_INLINE VI32 raw_dot(VI32 acc, VI8 w, VI8 x) { return dot_i8(acc, w, x); }

struct ByteDot {
  using Accumulator = VI32;
  using Weight = VI8;
  static HWY_INLINE Weight prepare(VI8 w) { return w; }
  static HWY_INLINE Accumulator begin(VI32 /*bias*/) { return hn::Zero(DI32()); }
  static HWY_INLINE Accumulator step(Accumulator acc, Weight w, VI8 x) { return dot_i8(acc, w, x); }
  static HWY_INLINE VI32 end(Accumulator acc) { return acc; }
};

struct UnsignedDot {
  using Accumulator = VI32;
  static HWY_INLINE Accumulator begin(VI32 bias) { return bias; }
  static HWY_INLINE Accumulator step(Accumulator acc, VU8 w, VI8 x) {
    return dot_i8(acc, hn::BitCast(DI8(), w), x);
  }
  static HWY_INLINE VI32 end(Accumulator acc, VI32 /*bias*/) { return acc; }
};

#else
#error "dot_inl.h: no int8 dot product for this instruction set; matmul_portable.cc serves it"
#endif

}  // namespace
}  // namespace linnet::cpu
