#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// One input's channels into their places.
layout(push_constant) uniform Push {
  uint groups;
  uint count;                    // elements written: tokens * heads * size
  uint heads, size, row;         // row: channels of the input; size where all heads share them
  uint out_size, out_first;      // channels of a head in the output, and where these begin
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) writeonly buffer Y { float y[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint c = n % p.size, h = n / p.size % p.heads, t = n / p.size / p.heads;
  y[(t * p.heads + h) * p.out_size + p.out_first + c] = x[t * p.row + (p.row == p.size ? 0u : h * p.size) + c];
}
