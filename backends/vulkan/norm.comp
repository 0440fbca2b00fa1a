#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "norm.glsl"

void main() {
  uint group = group_index();
  if (group >= p.groups) return;
  uint base = group * p.size, lane = gl_LocalInvocationID.x;
  float mean = 0.0;
  if (KIND == 1u) {
    float sum = 0.0;
    for (uint i = lane; i < p.size; i += THREADS) sum += value(base + i);
    mean = sum_of_group(sum) / float(p.size);
  }
  float squares = 0.0;
  for (uint i = lane; i < p.size; i += THREADS) {
    float v = value(base + i) - mean;
    squares += v * v;
  }
  squares = sum_of_group(squares);
  float inverse = 1.0 / sqrt((KIND == 2u ? squares : squares / float(p.size)) + p.epsilon);
  uint in_row = group % p.per_row;
  for (uint i = lane; i < p.size; i += THREADS) {
    float v = (value(base + i) - mean) * inverse;
    if (WEIGHT) v *= weight[in_row % p.weight_groups * p.size + i] + p.weight_offset;
    if (BIAS) v += bias[in_row % p.bias_groups * p.size + i];
    if (GATE && !GATE_FIRST) v *= activate(GATE_ACTIVATION, gate[base + i]);
    finish(base + i, in_row * p.size + i, v);
  }
}
