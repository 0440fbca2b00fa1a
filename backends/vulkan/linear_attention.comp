#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// o[r, h, j] = f(q) S_j / (f(q) S_last + epsilon): a thread for each element.
layout(constant_id = 1) const uint ACTIVATION = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, here, heads, key_dim, value_dim, first_head;  // here: heads of this input
  uint q_row, q_head;
  float epsilon;
}
p;
layout(std430, binding = 0) readonly buffer Q { float q[]; };
layout(std430, binding = 1) readonly buffer S { float s[]; };
layout(std430, binding = 2) writeonly buffer O { float o[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint columns = p.value_dim + 1u, j = n % p.value_dim, h = n / p.value_dim % p.here, r = n / p.value_dim / p.here;
  uint head = p.first_head + h, q_at = r * p.q_row + h * p.q_head;
  float above = 0.0, below = 0.0;
  for (uint i = 0u; i < p.key_dim; ++i) {
    float f = activate(ACTIVATION, q[q_at + i]);
    uint at = (head * p.key_dim + i) * columns;
    above += f * s[at + j];
    below += f * s[at + p.value_dim];
  }
  o[(r * p.heads + head) * p.value_dim + j] = above / (below + p.epsilon);
}
