// Activations to int8 in groups of 32, for one instruction set. See ActivationGroup.
#pragma once

#include "backends/cpu/matmul_tile_inl.h"
#include "backends/cpu/refined_list.h"

namespace linnet::cpu {
namespace {

// Below this a group is all zeros: 127 / max would leave the range of normal numbers.
inline constexpr float kSmallestMagnitude = 0x1p-100f;

HWY_INLINE void quantize_group(const float* x, ActivationGroup& out) {
  constexpr size_t kVectors = 32 / kLanes;
  constexpr uint32_t kInfinity = 0x7f800000;
  VF32 v[kVectors];
  // Without their signs, the bits of floats are in the order of their values; those that are not finite come
  // last.
  VI32 largest = hn::Zero(DI32());
  LINNET_FOR (i, kVectors) {
    v[i] = hn::LoadU(DF32(), x + i * kLanes);
    largest = hn::Max(largest, hn::BitCast(DI32(), hn::Abs(v[i])));
  }
  const auto bits = static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(DI32(), largest)));
  const auto magnitude = __builtin_bit_cast(float, bits);
  if (!(magnitude >= kSmallestMagnitude) || bits == kInfinity) [[unlikely]] {
    out = ActivationGroup{};
    if (bits >= kInfinity) out.d = out.sum = __builtin_nanf("");
    return;
  }
  const VF32 inverse = hn::Set(DF32(), 127.0f / magnitude);
  VI32 q[kVectors], total[2] = {hn::Zero(DI32()), hn::Zero(DI32())};
  LINNET_FOR (i, kVectors) {
    q[i] = nearest_in_range(hn::Mul(v[i], inverse));  // in [-127, 127]
    total[i / (kVectors / 2)] = hn::Add(total[i / (kVectors / 2)], q[i]);
  }
  store_as_bytes(q, out.q);
  LINNET_FOR (h, 2) out.half_sum[h] = static_cast<int16_t>(hn::GetLane(hn::SumOfLanes(DI32(), total[h])));
  const int32_t sum = out.half_sum[0] + out.half_sum[1];
  out.d = magnitude / 127.0f;
  out.sum = out.d * static_cast<float>(sum);
  out.bias8 = -8 * sum;
}

// x ~ d * q + the second term.
HWY_INLINE void quantize_remainder(const float* x, const ActivationGroup& first, ActivationGroup& out) {
  alignas(64) float remainder[kGroupSize];
  const VF32 minus_d = hn::Set(DF32(), -first.d);
  for (size_t i = 0; i < kGroupSize; i += kLanes) {
    const hn::Rebind<int8_t, DF32> bytes;
    const VF32 q = hn::ConvertTo(DF32(), hn::PromoteTo(DI32(), hn::LoadU(bytes, first.q + i)));
    hn::Store(hn::MulAdd(minus_d, q, hn::LoadU(DF32(), x + i)), DF32(), remainder + i);
  }
  quantize_group(remainder, out);
}

inline void quantize_rows(const float* x, int64_t rows, int64_t k, int64_t x_stride, Refine refine,
                          std::byte* out) {
  const size_t groups = group_count(k);
  for (int64_t r = 0; r < rows; ++r, x += x_stride, out += quantized_row_bytes(k, refine)) {
    auto* group = reinterpret_cast<ActivationGroup*>(out);
    // The last group where k is no multiple of its size.
    float tail[kGroupSize] = {};
    const size_t whole = static_cast<size_t>(k / kGroupSize);
    if (whole < groups)
      __builtin_memcpy(tail, x + whole * kGroupSize,
                       (static_cast<size_t>(k) - whole * kGroupSize) * sizeof(float));
    const auto input = [&](size_t g) { return g < whole ? x + g * kGroupSize : tail; };
    for (size_t g = 0; g < groups; ++g) {
      // Hardware prefetchers stop at page ends, which rows often are.
      const float* ahead = x + g * kGroupSize + kPrefetchAhead / sizeof(float);
      __builtin_prefetch(ahead), __builtin_prefetch(ahead + 16);
      __builtin_prefetch(group + g + 32, 1);
      quantize_group(input(g), group[g]);
    }
    if (refine == Refine::kNone) continue;
    RefinedList list(group + groups, refined_capacity(k, refine));
    list.choose(group, groups);
    for (int32_t i = 0; i < list.count(); ++i) {
      const auto g = static_cast<size_t>(list.index(i));
      quantize_remainder(input(g), group[g], list.second(i));
    }
  }
}

}  // namespace
}  // namespace linnet::cpu
