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
  float most = 0.0;
  for (uint i = lane; i < p.size; i += THREADS) most = largest(most, value(base + i));
  float unit = unit_of(max_of_group(most)), mean = 0.0;  // everything from here on is counted in units
  if (KIND == 1u) {
    float sum = 0.0;
    for (uint i = lane; i < p.size; i += THREADS) sum += value(base + i) * unit;
    mean = sum_of_group(sum) / float(p.size);
  }
  float squares = 0.0;
  for (uint i = lane; i < p.size; i += THREADS) {
    float v = value(base + i) * unit - mean;
    squares += v * v;
  }
  squares = sum_of_group(squares);
  float inverse = 1.0 / sqrt((KIND == 2u ? squares : squares / float(p.size)) + p.epsilon * unit * unit);
  uint in_row = group % p.per_row;
  for (uint i = lane; i < p.size; i += THREADS) {
    float v = (value(base + i) * unit - mean) * inverse;
    if (WEIGHT) v *= weight[in_row % p.weight_groups * p.size + i] + p.weight_offset;
    if (BIAS) v += bias[in_row % p.bias_groups * p.size + i];
    if (GATE && !GATE_FIRST) v *= activate(GATE_ACTIVATION, gate[base + i]);
    finish(base + i, in_row * p.size + i, v);
  }
}
