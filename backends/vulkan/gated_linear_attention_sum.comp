#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// z of gated_linear_attention, once every tile of its heads has read the old one.
layout(push_constant) uniform Push {
  uint groups;
  uint count;
}
p;
layout(std430, binding = 0) readonly buffer NewZ { float new_sum[]; };
layout(std430, binding = 1) writeonly buffer Z { float state_sum[]; };

void main() {
  uint n = thread_index();
  if (n < p.count) state_sum[n] = new_sum[n];
}
