#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"

// max(softmax(x M), floor), and of -x M after it where paired: a group for each token and head of the map.
// Constants: 1 head_dim, 2 columns of M, 3 paired.
layout(constant_id = 1) const uint HEAD_DIM = 1u;
layout(constant_id = 2) const uint COLUMNS = 1u;
layout(constant_id = 3) const uint PAIRED = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint heads, input_heads;
  float lowest;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer M { float map[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

shared float product[COLUMNS];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, t = group_index() / p.heads, h = group_index() % p.heads;
  uint from = (t * p.input_heads + h / (p.heads / p.input_heads)) * HEAD_DIM;
  uint to = group_index() * COLUMNS * (PAIRED != 0u ? 2u : 1u);
  for (uint f = lane; f < COLUMNS; f += THREADS) {
    float sum = 0.0;
    for (uint i = 0u; i < HEAD_DIM; ++i) sum += x[from + i] * map[(h * HEAD_DIM + i) * COLUMNS + f];
    product[f] = sum;
  }
  for (uint half_ = 0u; half_ < (PAIRED != 0u ? 2u : 1u); ++half_) {
    float sign = half_ == 0u ? 1.0 : -1.0, most = -kInfinity, sum = 0.0;
    for (uint f = lane; f < COLUMNS; f += THREADS) most = max(most, sign * product[f]);
    most = max_of_group(most);
    for (uint f = lane; f < COLUMNS; f += THREADS) sum += exp_(sign * product[f] - most);
    sum = sum_of_group(sum);
    for (uint f = lane; f < COLUMNS; f += THREADS) {
      float v = exp_(sign * product[f] - most) / sum;
      y[to + half_ * COLUMNS + f] = v < p.lowest ? p.lowest : v;
    }
  }
}
