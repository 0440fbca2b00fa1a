#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// Constants: 1 kind as in model.fbs, 2 activation, 3 whether b is a table of channels, for which a is repeated.
layout(constant_id = 1) const uint KIND = 0u;
layout(constant_id = 2) const uint ACTIVATION = 0u;
layout(constant_id = 3) const uint TABLE = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count;
  float alpha, beta;
  uint channels, own;  // of the output and of a
}
p;
layout(std430, binding = 0) readonly buffer A { float a[]; };
layout(std430, binding = 1) readonly buffer B { float b_in[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  uint i = thread_index();
  if (i >= p.count) return;
  float v = a[TABLE != 0u ? i / p.channels * p.own + i % p.channels % p.own : i];
  bool binary = KIND == 0u || KIND == 1u || KIND == 3u || KIND == 6u;
  float b = binary ? b_in[TABLE != 0u ? i % p.channels : i] : 0.0;
  switch (KIND) {
    case 0u:
      v = v + b;
      break;
    case 1u:
      v = v * b;
      break;
    case 2u:
      v = activate(ACTIVATION, v);
      break;
    case 3u:
      v = activate(ACTIVATION, v) * b;
      break;
    case 4u:
      v = p.alpha * v + p.beta;
      break;
    case 5u:
      v = p.alpha * tanh_(v / p.alpha);
      break;
    case 6u:
      v = p.alpha * v + p.beta * b;
      break;
  }
  y[i] = v;
}
