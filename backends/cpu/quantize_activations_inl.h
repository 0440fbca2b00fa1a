// Activations to int8 in groups of 32, for one instruction set. See ActivationGroup.
#pragma once

#include "backends/cpu/matmul_tile_inl.h"

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

inline void quantize_rows(const float* x, int64_t rows, int64_t k, int64_t x_stride, std::byte* out) {
  auto* group = reinterpret_cast<ActivationGroup*>(out);
  for (int64_t r = 0; r < rows; ++r, x += x_stride) {
    int64_t i = 0;
    for (; i + kGroupSize <= k; i += kGroupSize) quantize_group(x + i, *group++);
    if (i < k) {
      float tail[kGroupSize] = {};
      __builtin_memcpy(tail, x + i, static_cast<size_t>(k - i) * sizeof(float));
      quantize_group(tail, *group++);
    }
  }
}

}  // namespace
}  // namespace linnet::cpu
