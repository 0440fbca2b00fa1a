#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform Push {
  uint groups;
  uint count, width, channels;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer Columns { float columns[]; };  // [width, channels / 2]
layout(std430, binding = 2) readonly buffer Rows { float rows[]; };        // [height, channels / 2]
layout(std430, binding = 3) writeonly buffer Y { float y[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint c = n % p.channels, pixel = n / p.channels, half_ = p.channels / 2u;
  y[n] = x[n] + (c < half_ ? columns[pixel % p.width * half_ + c] : rows[pixel / p.width * half_ + c - half_]);
}
