// Vector helpers and elementary functions, compiled once per Highway target. Coefficients are our own minimax
// (Remez) fits. Errors against double precision are the largest over all floats of the stated range, as
// tests/kernels/vector_math_test.cc measures (it walks every float when asked to):
//   exp       under 1.1 ULP where the result is a normal number; below 2^-126 the result is 0
//   sigmoid, silu, gelu_tanh, softplus, log_sigmoid   under 4 ULP, but see gelu_tanh
//   gelu (erf)   under 1.6 ULP, under 2 on processors without fused multiply-add; below -13.2 the result is 0
//   tanh      under 2 ULP
// gelu_tanh grows to |x|^3-scaled errors in its far negative tail, where it is below 1e-5 of its input.
// Infinities give their limits (or NaN where the limit is 0 * infinity), NaN gives NaN.

#if defined(LINNET_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_VECTOR_MATH_INL_H_
#undef LINNET_VECTOR_MATH_INL_H_
#else
#define LINNET_VECTOR_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>

#include "format/model_generated.h"

// Before a loop over a constant count that must be unrolled, so that arrays of vectors become registers;
// before any other whose counting would be a tenth of its instructions.
#ifndef LINNET_UNROLL
#if defined(__clang__)
#define LINNET_UNROLL _Pragma("clang loop unroll(full)")
#define LINNET_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define LINNET_UNROLL _Pragma("GCC unroll 16")
#define LINNET_UNROLL_TWICE _Pragma("GCC unroll 2")
#endif
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
inline constexpr int64_t kLanes = static_cast<int64_t>(HWY_LANES(float));  // no scalable targets are built

// ---- loads and stores of whole vectors and of a row's last, partial one ---------------------------------

// Access to vectors that are whole.
struct Whole {
  static FloatVec load(const float* p) { return hn::LoadU(FloatTag(), p); }
  static void store(FloatVec v, float* p) { hn::StoreU(v, FloatTag(), p); }
  static FloatVec keep(FloatVec v) { return v; }
};
// Access to the first n < kLanes lanes: the others load as zero and are not stored.
struct Part {
  size_t n;
  FloatVec load(const float* p) const {
#if HWY_TARGET <= HWY_AVX2
    return hn::MaskedLoad(hn::FirstN(FloatTag(), n), FloatTag(), p);
#else
    HWY_ALIGN float lanes[HWY_LANES(float)] = {};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return hn::Load(FloatTag(), lanes);
#endif
  }
  void store(FloatVec v, float* p) const {
#if HWY_TARGET <= HWY_AVX2
    hn::BlendedStore(v, hn::FirstN(FloatTag(), n), FloatTag(), p);
#else
    HWY_ALIGN float lanes[HWY_LANES(float)];
    hn::Store(v, FloatTag(), lanes);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
#endif
  }
  // v with the lanes beyond n zero.
  FloatVec keep(FloatVec v) const { return hn::IfThenElseZero(hn::FirstN(FloatTag(), n), v); }
};
// f(access, i) for i = 0, kLanes, 2 kLanes, ... < n: element i and those after it as one vector.
template <typename F>
HWY_INLINE void for_lanes(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(Whole(), i);
  if (i < n) f(Part{static_cast<size_t>(n - i)}, i);
}

HWY_INLINE FloatVec set(float value) { return hn::Set(FloatTag(), value); }
HWY_INLINE float sum_of_lanes(FloatVec v) { return hn::GetLane(hn::SumOfLanes(FloatTag(), v)); }
HWY_INLINE float max_of_lanes(FloatVec v) { return hn::GetLane(hn::MaxOfLanes(FloatTag(), v)); }

// ---- elementary functions -------------------------------------------------------------------------------

// e^x = 2^n e^r, r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2] (Cody and Waite), e^r = 1 + r + r^2 q(r).
HWY_INLINE FloatVec exp(FloatVec x) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const auto n = hn::Round(hn::Mul(x, set(0x1.715476p+0f)));
  // The high part of ln 2 has 10 bits, so that n times it is exact with or without fused multiply-add.
  auto r = hn::NegMulAdd(n, set(0.693359375f), x);
  r = hn::NegMulAdd(n, set(-2.12194442e-4f), r);
  auto q = hn::MulAdd(r, set(0x1.6a234ap-10f), set(0x1.123a6cp-7f));
  q = hn::MulAdd(r, q, set(0x1.5558f4p-5f));
  q = hn::MulAdd(r, q, set(0x1.555490p-3f));
  q = hn::MulAdd(r, q, set(0x1.fffffcp-2f));
  const auto p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), set(1.0f));
  // p is in [0.7, 1.42] and at most 1 where n is 128, so adding n to its exponent stays in range.
  const auto scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::ConvertTo(di, n))));
  // NaN fails both comparisons and comes out of the sum.
  const auto high = hn::IfThenElse(hn::Le(x, set(0x1.62e42ep+6f)), scaled, hn::Add(x, set(HUGE_VALF)));
  return hn::IfThenZeroElse(hn::Lt(x, set(-0x1.5d589ep+6f)), high);
}

HWY_INLINE FloatVec tanh(FloatVec x) {
  // Odd polynomial near zero; elsewhere 1 - 2 / (e^2|x| + 1) does not cancel.
  const auto magnitude = hn::Abs(x);
  const auto u = hn::Mul(x, x);
  auto p = hn::MulAdd(u, set(-0x1.75e1a4p-8f), set(0x1.522692p-6f));
  p = hn::MulAdd(u, p, set(-0x1.b83c58p-5f));
  p = hn::MulAdd(u, p, set(0x1.110726p-3f));
  p = hn::MulAdd(u, p, set(-0x1.555532p-2f));
  const auto small = hn::MulAdd(hn::Mul(p, u), x, x);
  const auto e = exp(hn::Add(magnitude, magnitude));
  const auto large = hn::Sub(set(1.0f), hn::Div(set(2.0f), hn::Add(e, set(1.0f))));
  return hn::IfThenElse(hn::Lt(magnitude, set(0.625f)), small, hn::CopySign(large, x));
}

// log(1 + t) for t in [0, 1]: 2 atanh(s), s = t / (2 + t) <= 1/3.
HWY_INLINE FloatVec log1p_unit(FloatVec t) {
  const auto s = hn::Div(t, hn::Add(t, set(2.0f)));
  const auto u = hn::Mul(s, s);
  auto p = hn::MulAdd(u, set(0x1.f1731cp-4f), set(0x1.b6e6d6p-4f));
  p = hn::MulAdd(u, p, set(0x1.2508b0p-3f));
  p = hn::MulAdd(u, p, set(0x1.9996b0p-3f));
  p = hn::MulAdd(u, p, set(0x1.555558p-2f));
  const auto twice = hn::Add(s, s);
  return hn::MulAdd(hn::Mul(p, u), twice, twice);
}

HWY_INLINE FloatVec sigmoid(FloatVec x) { return hn::Div(set(1.0f), hn::Add(set(1.0f), exp(hn::Neg(x)))); }
HWY_INLINE FloatVec silu(FloatVec x) { return hn::Div(x, hn::Add(set(1.0f), exp(hn::Neg(x)))); }
// 0.5 (1 + tanh(u)) = 1 / (1 + e^-2u), which does not cancel for negative u.
HWY_INLINE FloatVec gelu_tanh(FloatVec x) {
  const auto cubic = hn::MulAdd(hn::Mul(x, x), set(0.044715f), set(1.0f));
  const auto u2 = hn::Mul(hn::Mul(x, set(1.59576912f)), cubic);
  return hn::Div(x, hn::Add(set(1.0f), exp(hn::Neg(u2))));
}
// a b - p, where p is a b rounded.
HWY_INLINE FloatVec product_rest(FloatVec a, FloatVec b, FloatVec p) {
#if HWY_NATIVE_FMA
  return hn::MulSub(a, b, p);
#else  // halves of 12 bits (Veltkamp, Dekker)
  const auto split = set(4097.0f);
  const auto ca = hn::Mul(split, a), cb = hn::Mul(split, b);
  const auto a1 = hn::Sub(ca, hn::Sub(ca, a)), b1 = hn::Sub(cb, hn::Sub(cb, b));
  const auto a2 = hn::Sub(a, a1), b2 = hn::Sub(b, b1);
  const auto high = hn::Add(hn::Sub(hn::Mul(a1, b1), p), hn::Add(hn::Mul(a1, b2), hn::Mul(a2, b1)));
  return hn::Add(high, hn::Mul(a2, b2));
#endif
}
// x Phi(x). Near zero x (1/2 + x r(x^2)). Elsewhere, for |x|: Phi(-|x|) = e^(-x^2/2) a(t), t = 1 / (1 + 0.35
// |x|), where what is lost to rounding on the way (in x^2, t, a and |x| a) comes back with the last sum.
HWY_INLINE FloatVec gelu(FloatVec x) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const auto one = set(1.0f), zero = hn::Zero(d);
  const auto magnitude = hn::Abs(x);
  const auto u = hn::Mul(x, x);
  auto near = hn::MulAdd(u, set(0x1.b89a92p-14f), set(-0x1.366c80p-10f));
  near = hn::MulAdd(u, near, set(0x1.46d154p-7f));
  near = hn::MulAdd(u, near, set(-0x1.105860p-4f));
  near = hn::MulAdd(u, near, set(0x1.988454p-2f));
  near = hn::Mul(x, hn::MulAdd(x, near, set(0.5f)));

  const auto m = hn::Min(magnitude, set(13.2f));  // beyond, the tail is below the normal numbers: 0
  const auto slope = set(0.35f);
  const auto product = hn::Mul(m, slope);
  const auto divisor = hn::Add(one, product);
  const auto divisor_rest = hn::Add(hn::Add(product, hn::Sub(one, divisor)), product_rest(m, slope, product));
  const auto t = hn::Div(one, divisor);
  const auto back = hn::Mul(divisor, t);
  // t is (1 + of_t) times what it is taken for; a moves by about (0.95 + 1.45 t) of that.
  const auto of_t =
      hn::NegMulAdd(divisor_rest, t, hn::Sub(hn::Sub(one, back), product_rest(divisor, t, back)));
  const auto s = hn::Sub(t, set(0x1.4000d4p-2f));
  auto p = hn::MulAdd(s, set(-0x1.1df5b8p-5f), set(0x1.26bd0ep-4f));
  p = hn::MulAdd(s, p, set(-0x1.00e5e6p-8f));
  p = hn::MulAdd(s, p, set(-0x1.4941acp-4f));
  p = hn::MulAdd(s, p, set(-0x1.35dcb4p-5f));
  p = hn::MulAdd(s, p, set(0x1.d526c8p-4f));
  p = hn::MulAdd(s, p, set(0x1.0cffc4p-2f));
  p = hn::MulAdd(s, p, set(0x1.44ce0cp-2f));
  p = hn::MulAdd(s, p, set(0x1.1a05b2p-2f));
  const auto middle = set(0x1.fbab60p-5f), sp = hn::Mul(s, p);
  const auto a = hn::Add(middle, sp);
  const auto a_rest = hn::Add(hn::Add(sp, hn::Sub(middle, a)), product_rest(s, p, sp));

  // e^(-x^2/2) = 2^n (1 + q), as in exp().
  const auto square = hn::Mul(m, m), half = set(0.5f);
  const auto y = hn::Neg(hn::Mul(half, square));
  const auto n = hn::Round(hn::Mul(y, set(0x1.715476p+0f)));
  auto r = hn::NegMulAdd(n, set(0.693359375f), y);
  r = hn::NegMulAdd(n, set(-2.12194442e-4f), r);
  r = hn::NegMulAdd(half, product_rest(m, m, square), r);
  auto q = hn::MulAdd(r, set(0x1.6a234ap-10f), set(0x1.123a6cp-7f));
  q = hn::MulAdd(r, q, set(0x1.5558f4p-5f));
  q = hn::MulAdd(r, q, set(0x1.555490p-3f));
  q = hn::MulAdd(r, q, set(0x1.fffffcp-2f));
  q = hn::MulAdd(hn::Mul(r, r), q, r);
  const auto power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127))));

  const auto b = hn::Mul(magnitude, a);
  auto rest = hn::MulAdd(magnitude, a_rest, product_rest(magnitude, a, b));
  rest = hn::MulAdd(hn::Mul(b, of_t), hn::MulAdd(set(1.45f), t, set(0.95f)), rest);
  rest = hn::MulAdd(b, q, hn::MulAdd(rest, q, rest));
  const auto lost = hn::Mul(hn::Add(b, rest), power);
  const auto tail = hn::IfThenZeroElse(hn::Gt(magnitude, set(13.2f)), lost);
  const auto far = hn::Sub(hn::IfThenZeroElse(hn::Lt(x, zero), x), tail);
  return hn::IfThenElse(hn::Lt(magnitude, set(0.75f)), near, far);
}
HWY_INLINE FloatVec softplus(FloatVec x) {
  const auto rest = log1p_unit(exp(hn::Neg(hn::Abs(x))));
  return hn::Add(hn::IfThenZeroElse(hn::Lt(x, hn::Zero(FloatTag())), x), rest);
}
HWY_INLINE FloatVec log_sigmoid(FloatVec x) { return hn::Neg(softplus(hn::Neg(x))); }
HWY_INLINE FloatVec relu(FloatVec x) { return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(FloatTag())), x); }
HWY_INLINE FloatVec elu1(FloatVec x) {
  return hn::IfThenElse(hn::Gt(x, hn::Zero(FloatTag())), hn::Add(x, set(1.0f)), exp(x));
}

// Calls f with the function of `activation` as an object of its own type, so that the choice is made once and
// not in the loop: with_activation(a, [&](auto act) HWY_ATTR { for_lanes(... act(v) ...); }).
template <typename F>
HWY_INLINE void with_activation(fb::Activation activation, const F& f) {
  struct None {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return x; }
  };
  struct Silu {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return silu(x); }
  };
  struct Gelu {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return gelu(x); }
  };
  struct GeluTanh {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return gelu_tanh(x); }
  };
  struct Relu {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return relu(x); }
  };
  struct ReluSquared {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return hn::Mul(relu(x), relu(x)); }
  };
  struct Sigmoid {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return sigmoid(x); }
  };
  struct Tanh {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return tanh(x); }
  };
  struct Softplus {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return softplus(x); }
  };
  struct Exp {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return exp(x); }
  };
  struct LogSigmoid {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return log_sigmoid(x); }
  };
  struct Elu1 {
    HWY_INLINE FloatVec operator()(FloatVec x) const { return elu1(x); }
  };
  switch (activation) {
    case fb::Activation::None:
      return f(None());
    case fb::Activation::Silu:
      return f(Silu());
    case fb::Activation::Gelu:
      return f(Gelu());
    case fb::Activation::GeluTanh:
      return f(GeluTanh());
    case fb::Activation::Relu:
      return f(Relu());
    case fb::Activation::ReluSquared:
      return f(ReluSquared());
    case fb::Activation::Sigmoid:
      return f(Sigmoid());
    case fb::Activation::Tanh:
      return f(Tanh());
    case fb::Activation::Softplus:
      return f(Softplus());
    case fb::Activation::Exp:
      return f(Exp());
    case fb::Activation::LogSigmoid:
      return f(LogSigmoid());
    case fb::Activation::Elu1:
      return f(Elu1());
  }
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
