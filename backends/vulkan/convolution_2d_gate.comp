#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// y = first half of the channels * act(second half) (+ residual).
layout(constant_id = 1) const uint ACTIVATION = 0u;
layout(constant_id = 2) const uint RESIDUAL = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, written;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer R { float residual[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint at = n / p.written * 2u * p.written + n % p.written;
  float v = x[at] * activate(ACTIVATION, x[at + p.written]);
  y[n] = RESIDUAL != 0u ? v + residual[n] : v;
}
