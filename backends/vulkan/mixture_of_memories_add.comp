#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// The memories' outputs added up in order.
layout(push_constant) uniform Push {
  uint groups;
  uint count, all;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) writeonly buffer Y { float y[]; };

void main() {
  uint i = thread_index();
  if (i >= p.count) return;
  float sum = 0.0;
  for (uint m = 0u; m < p.all; ++m) sum += x[m * p.count + i];
  y[i] = sum;
}
