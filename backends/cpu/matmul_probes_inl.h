// Loops that reach a limit of the machine and do nothing else, so that a benchmark can state its figures as
// shares of what this processor can do. See Probes in matmul.h.
#pragma once

#include "backends/cpu/matmul_tile_inl.h"

namespace linnet::cpu {
namespace {

// Enough independent sums to cover the latency of an operation on every pipe.
inline constexpr size_t kProbeSums = 10;

inline uint64_t probe_read(const std::byte* data, size_t bytes) {
  VU8 sums[8];
  LINNET_FOR (i, 8) sums[i] = hn::Zero(DU8());
  for (size_t at = 0; at + 8 * kVectorBytes <= bytes; at += 8 * kVectorBytes) {
    LINNET_FOR (i, 8)
      sums[i] =
          hn::Xor(sums[i], hn::LoadU(DU8(), reinterpret_cast<const uint8_t*>(data) + at + i * kVectorBytes));
  }
  LINNET_FOR (i, 7) sums[0] = hn::Xor(sums[0], sums[i + 1]);
  return hn::GetLane(hn::BitCast(hn::CappedTag<uint64_t, kVectorBytes / 8>(), sums[0]));
}

inline double probe_int8(int64_t iterations) {
  ByteDot::Weight w = ByteDot::prepare(hn::Set(DI8(), int8_t{3}));
  VI8 x = hn::Set(DI8(), int8_t{1});
  VI32 sums[kProbeSums];
  LINNET_FOR (i, kProbeSums) sums[i] = hn::Zero(DI32());
  for (int64_t n = 0; n < iterations; ++n) {
    LINNET_FOR (i, kProbeSums) {
      keep(x);  // or the products would be computed once
      sums[i] = raw_dot(sums[i], w, x);
      keep(sums[i]);
    }
  }
  return 2.0 * static_cast<double>(iterations) * static_cast<double>(kProbeSums * kVectorBytes);
}

inline double probe_f32(int64_t iterations) {
  const VF32 a = hn::Set(DF32(), 0.999f), b = hn::Set(DF32(), 1e-3f);
  VF32 sums[kProbeSums];
  LINNET_FOR (i, kProbeSums) sums[i] = hn::Set(DF32(), 1.0f);
  for (int64_t n = 0; n < iterations; ++n) {
    LINNET_FOR (i, kProbeSums) {
      sums[i] = hn::MulAdd(sums[i], a, b);
      keep(sums[i]);
    }
  }
  return 2.0 * static_cast<double>(iterations) * static_cast<double>(kProbeSums * kLanes);
}

}  // namespace
}  // namespace linnet::cpu
