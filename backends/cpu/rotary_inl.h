// Rotations of heads, compiled once per Highway target: shared by rotary_embedding and by softmax_attention,
// which turns queries back for attention sinks.

#if defined(LINNET_ROTARY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_ROTARY_INL_H_
#undef LINNET_ROTARY_INL_H_
#else
#define LINNET_ROTARY_INL_H_
#endif

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// cos and sin of position * inverse_frequencies[i], times amplitude, for i < n. The angle is reduced in
// double, to quarter turns f in [-1/2, 1/2] whatever the position: at a million tokens a float angle would be
// off by more than a hundredth of a turn. Absolute error below 1.5e-7 for |position| up to 2^40.
HWY_INLINE void rotary_table(const float* inverse_frequencies, int64_t n, double position, float amplitude,
                             float* cosines, float* sines) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const hn::Rebind<int32_t, decltype(dd)> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(dd));
  HWY_ALIGN float buffer[HWY_LANES(double)] = {};
  for (int64_t i = 0; i < n; i += lanes) {
    const int64_t count = n - i < lanes ? n - i : lanes;
    for (int64_t j = 0; j < count; ++j) buffer[j] = inverse_frequencies[i + j];
    const auto quarters = hn::Mul(hn::Mul(hn::PromoteTo(dd, hn::Load(df, buffer)), hn::Set(dd, position)),
                                  hn::Set(dd, 0.63661977236758134308));
    const auto whole = hn::Round(quarters);
    const auto f = hn::DemoteTo(df, hn::Sub(quarters, whole));
    // whole mod 4, which fits an int32 whatever the position.
    const auto rest = hn::Sub(whole, hn::Mul(hn::Floor(hn::Mul(whole, hn::Set(dd, 0.25))), hn::Set(dd, 4.0)));
    const auto quadrant = hn::DemoteTo(di, rest);
    const auto u = hn::Mul(f, f);
    auto s = hn::MulAdd(u, hn::Set(df, 0x1.4bc1dap-13f), hn::Set(df, -0x1.32ca84p-8f));
    s = hn::MulAdd(u, s, hn::Set(df, 0x1.466bbap-4f));
    s = hn::MulAdd(u, s, hn::Set(df, -0x1.4abbcep-1f));
    s = hn::Mul(f, hn::MulAdd(u, s, hn::Set(df, 0x1.921fb6p+0f)));
    auto c = hn::MulAdd(u, hn::Set(df, 0x1.d9f6ecp-11f), hn::Set(df, -0x1.55c662p-6f));
    c = hn::MulAdd(u, c, hn::Set(df, 0x1.03c1dep-2f));
    c = hn::MulAdd(u, c, hn::Set(df, -0x1.3bd3ccp+0f));
    c = hn::MulAdd(u, c, hn::Set(df, 1.0f));
    // Odd quadrants swap sine and cosine; the sine is negative in 2 and 3, the cosine in 1 and 2.
    const auto one = hn::Set(di, 1), two = hn::Set(di, 2);
    const auto odd = hn::RebindMask(df, hn::Eq(hn::And(quadrant, one), one));
    const auto sine_sign = hn::BitCast(df, hn::ShiftLeft<30>(hn::And(quadrant, two)));
    const auto cosine_sign = hn::BitCast(df, hn::ShiftLeft<30>(hn::And(hn::Add(quadrant, one), two)));
    const auto scale = hn::Set(df, amplitude);
    HWY_ALIGN float cosine[HWY_LANES(double)], sine[HWY_LANES(double)];
    hn::Store(hn::Mul(scale, hn::Xor(hn::IfThenElse(odd, s, c), cosine_sign)), df, cosine);
    hn::Store(hn::Mul(scale, hn::Xor(hn::IfThenElse(odd, c, s), sine_sign)), df, sine);
    for (int64_t j = 0; j < count; ++j) {
      cosines[i + j] = cosine[j];
      sines[i + j] = sine[j];
    }
  }
}

// y = the head x of `head_dim` channels, its first 2 n turned by the table; x and y may be the same. Pairs
// are (2i, 2i + 1) if interleaved, else (i, i + n).
HWY_INLINE void rotate(const float* cosines, const float* sines, int64_t n, bool interleaved,
                       int64_t head_dim, const float* x, float* y) {
  const FloatTag d;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    FloatVec a, b;
    if (interleaved) {
      hn::LoadInterleaved2(d, x + 2 * i, a, b);
    } else {
      a = hn::LoadU(d, x + i);
      b = hn::LoadU(d, x + n + i);
    }
    const auto turned_a = hn::NegMulAdd(b, s, hn::Mul(a, c)), turned_b = hn::MulAdd(a, s, hn::Mul(b, c));
    if (interleaved) {
      hn::StoreInterleaved2(turned_a, turned_b, d, y + 2 * i);
    } else {
      hn::StoreU(turned_a, d, y + i);
      hn::StoreU(turned_b, d, y + n + i);
    }
  }
  for (; i < n; ++i) {
    const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + n;
    const float a = x[first], b = x[second];
    y[first] = a * cosines[i] - b * sines[i];
    y[second] = b * cosines[i] + a * sines[i];
  }
  if (x != y)
    for (i = 2 * n; i < head_dim; ++i) y[i] = x[i];
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
