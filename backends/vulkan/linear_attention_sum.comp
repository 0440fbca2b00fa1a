#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// S[h, i, j] = sum over the keys of f(k_i) v_j, and with v_j = 1 in column value_dim: a thread for each element.
layout(constant_id = 1) const uint ACTIVATION = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, rows, key_dim, value_dim, first_head;
  uint k_row, k_head, k_at, v_row, v_head, v_at;  // where heads begin in the inputs
}
p;
layout(std430, binding = 0) readonly buffer K { float k[]; };
layout(std430, binding = 1) readonly buffer V { float v[]; };
layout(std430, binding = 2) writeonly buffer S { float s[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint columns = p.value_dim + 1u, j = n % columns, i = n / columns % p.key_dim, h = n / columns / p.key_dim;
  uint k_at = h * p.k_head + p.k_at + i, v_at = h * p.v_head + p.v_at + j;
  float total = 0.0;
  // In blocks, so that rounding does not pile up over an image's rows.
  for (uint start = 0u; start < p.rows; start += 64u) {
    float sum = 0.0;
    uint end = min(start + 64u, p.rows);
    for (uint r = start; r < end; ++r) {
      float f = activate(ACTIVATION, k[r * p.k_row + k_at]);
      sum += j < p.value_dim ? f * v[r * p.v_row + v_at] : f;
    }
    total += sum;
  }
  s[((p.first_head + h) * p.key_dim + i) * columns + j] = total;
}
