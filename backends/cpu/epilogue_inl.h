// What follows a matrix product while its tile of outputs is in the first caches. Compiled once per Highway
// target.

#if defined(LINNET_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_EPILOGUE_INL_H_
#undef LINNET_EPILOGUE_INL_H_
#else
#define LINNET_EPILOGUE_INL_H_
#endif

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// y = act(y + bias0) [* (second + bias1)] [* gate] [+ residual], `columns` of each row. Null pointers:
// absent.
struct Epilogue {
  float* y;
  const float* second;
  const float* gate;  // one row
  const float* residual;
  const float* bias0;
  const float* bias1;
  int64_t y_stride, second_stride, columns;
};

HWY_INLINE void apply_epilogue(fb::Activation activation, const Epilogue& e, int64_t rows) {
  if (activation == fb::Activation::None && !e.bias0 && !e.second && !e.gate && !e.residual) return;
  with_activation(activation, [&](auto act) HWY_ATTR {
    for (int64_t r = 0; r < rows; ++r) {
      float* y = e.y + r * e.y_stride;
      const float* second = e.second ? e.second + r * e.second_stride : nullptr;
      const float* residual = e.residual ? e.residual + r * e.y_stride : nullptr;
      for_lanes(e.columns, [&](auto lanes, int64_t i) HWY_ATTR {
        auto v = lanes.load(y + i);
        if (e.bias0) v = hn::Add(v, lanes.load(e.bias0 + i));
        v = act(v);
        if (second) {
          auto w = lanes.load(second + i);
          if (e.bias1) w = hn::Add(w, lanes.load(e.bias1 + i));
          v = hn::Mul(v, w);
        }
        if (e.gate) v = hn::Mul(v, lanes.load(e.gate + i));
        if (residual) v = hn::Add(v, lanes.load(residual + i));
        lanes.store(v, y + i);
      });
    }
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
