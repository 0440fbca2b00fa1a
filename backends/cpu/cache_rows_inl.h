// Rows of a key or value cache in f32, f16 or q8, to and from f32, compiled once per Highway target. The bits
// stored are those of host::store_cache_row, so that states move between backends.

#if defined(LINNET_CACHE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_CACHE_ROWS_INL_H_
#undef LINNET_CACHE_ROWS_INL_H_
#else
#define LINNET_CACHE_ROWS_INL_H_
#endif

#include "backends/cpu/vector_math_inl.h"
#include "backends/host/scalar.h"

#undef LINNET_NATIVE_HALF
// Where the processor converts halves itself, to the same bits as host::.
#if HWY_TARGET <= HWY_AVX2 || (HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)
#define LINNET_NATIVE_HALF 1
#else
#define LINNET_NATIVE_HALF 0
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Channels [first, first + n) of a stored row as f32.
HWY_INLINE void load_row(DType dtype, const std::byte* row, int64_t first, int64_t n, float* values) {
  const FloatTag d;
  if (dtype == DType::kF32) {
    const float* from = reinterpret_cast<const float*>(row) + first;
    for_lanes(n, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(lanes.load(from + i), values + i); });
    return;
  }
#if LINNET_NATIVE_HALF
  if (dtype == DType::kF16) {
    const hn::Rebind<hwy::float16_t, FloatTag> dh;
    const auto* from = reinterpret_cast<const uint16_t*>(row) + first;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from + i))), d,
                 values + i);
    for (; i < n; ++i) values[i] = f16_to_f32(from[i]);
    return;
  }
#endif
  if (dtype == DType::kQ8 && first % kGroupSize == 0 && n % kGroupSize == 0) {
    const std::byte* group = row + static_cast<size_t>(first / kGroupSize) * group_bytes(DType::kQ8);
    const hn::Rebind<int8_t, FloatTag> d8;
    const hn::Rebind<int32_t, FloatTag> d32;
    for (int64_t g = 0; g < n; g += kGroupSize, group += group_bytes(DType::kQ8)) {
      uint16_t scale;
      __builtin_memcpy(&scale, group, sizeof(scale));
      const auto step = hn::Set(d, f16_to_f32(scale));
      const auto* q = reinterpret_cast<const int8_t*>(group + scale_bytes(DType::kQ8));
      for (int64_t i = 0; i < kGroupSize; i += kLanes)
        hn::StoreU(hn::Mul(step, hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, q + i)))), d,
                   values + g + i);
    }
    return;
  }
  host::load_cache_row(dtype, row, first, n, values);
}

// Stores a whole row of n channels (a multiple of 32 for q8).
HWY_INLINE void store_row(DType dtype, const float* values, int64_t n, std::byte* row) {
#if LINNET_NATIVE_HALF
  const FloatTag d;
  if (dtype == DType::kF16) {
    const hn::Rebind<hwy::float16_t, FloatTag> dh;
    auto* to = reinterpret_cast<uint16_t*>(row);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, values + i)), dh, reinterpret_cast<hwy::float16_t*>(to + i));
    for (; i < n; ++i) to[i] = f32_to_f16(values[i]);
    return;
  }
  if (dtype == DType::kQ8) {
    const hn::Rebind<int8_t, FloatTag> d8;
    for (int64_t g = 0; g < n; g += kGroupSize, row += group_bytes(DType::kQ8)) {
      auto most = hn::Zero(d);
      auto spoilt = hn::Zero(d);  // 0 * x is NaN for NaN and infinities, else 0
      for (int64_t i = 0; i < kGroupSize; i += kLanes) {
        const auto v = hn::LoadU(d, values + g + i);
        most = hn::Max(most, hn::Abs(v));
        spoilt = hn::MulAdd(v, hn::Zero(d), spoilt);
      }
      if (!(sum_of_lanes(spoilt) == 0.0f)) {
        host::store_cache_row(dtype, values + g, kGroupSize, row);
        continue;
      }
      const uint16_t scale = f32_to_f16(max_of_lanes(most) / 127.0f);
      const float step = f16_to_f32(scale);
      const auto inverse = hn::Set(d, step > 0.0f ? 1.0f / step : 0.0f);
      __builtin_memcpy(row, &scale, sizeof(scale));
      auto* q = reinterpret_cast<int8_t*>(row + scale_bytes(DType::kQ8));
      for (int64_t i = 0; i < kGroupSize; i += kLanes) {
        const auto v = hn::Mul(hn::LoadU(d, values + g + i), inverse);
        const auto clamped = hn::Min(hn::Max(v, hn::Set(d, -127.0f)), hn::Set(d, 127.0f));
        hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(clamped)), d8, q + i);
      }
    }
    return;
  }
#endif
  host::store_cache_row(dtype, values, n, row);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
