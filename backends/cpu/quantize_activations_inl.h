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
  VF32 v[kVectors];
  VF32 largest = hn::Zero(DF32()), probe = hn::Zero(DF32());
  LINNET_FOR (i, kVectors) {
    v[i] = hn::LoadU(DF32(), x + i * kLanes);
    largest = hn::Max(largest, hn::Abs(v[i]));
    probe = hn::MulAdd(v[i], hn::Zero(DF32()), probe);  // 0, or NaN where x is not finite (max() drops NaN)
  }
  const float magnitude = hn::GetLane(hn::MaxOfLanes(DF32(), largest));
  const float poison = hn::GetLane(hn::SumOfLanes(DF32(), probe));
  const bool usable = magnitude >= kSmallestMagnitude && poison == 0.0f;
  const VF32 inverse = hn::Set(DF32(), usable ? 127.0f / magnitude : 0.0f);
  VI32 total = hn::Zero(DI32());
  LINNET_FOR (i, kVectors) {
    // Selecting by `usable` keeps NaN away from the conversion; |x * inverse| may round up to just over 127.
    const VF32 scaled = usable ? hn::Mul(v[i], inverse) : hn::Zero(DF32());
    const VI32 q = hn::NearestInt(scaled);
    total = hn::Add(total, q);
    const hn::Rebind<int8_t, DI32> bytes;
    hn::StoreU(hn::DemoteTo(bytes, q), bytes, out.q + i * kLanes);
  }
  const int32_t sum = hn::GetLane(hn::SumOfLanes(DI32(), total));
  out.d = (usable ? magnitude / 127.0f : 0.0f) + poison;
  out.sum = out.d * static_cast<float>(sum);
  out.bias128 = -128 * sum;
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
    for (size_t g = 0; g < groups; ++g) quantize_group(input(g), group[g]);
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
