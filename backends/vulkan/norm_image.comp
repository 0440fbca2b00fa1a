#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "norm.glsl"

// Mean and deviation over all rows of a group of channels: one thread group for each.
void main() {
  uint group = group_index(), lane = gl_LocalInvocationID.x;
  if (group >= p.groups) return;
  uint count = p.rows * p.size, d = p.per_row * p.size, first = group * p.size;
  float most = 0.0, sum = 0.0, squares = 0.0;
  for (uint n = lane; n < count; n += THREADS) most = largest(most, x[n / p.size * d + first + n % p.size]);
  float unit = unit_of(max_of_group(most));  // everything from here on is counted in units
  for (uint n = lane; n < count; n += THREADS) sum += x[n / p.size * d + first + n % p.size] * unit;
  float mean = sum_of_group(sum) / float(count);
  for (uint n = lane; n < count; n += THREADS) {
    float v = x[n / p.size * d + first + n % p.size] * unit - mean;
    squares += v * v;
  }
  float inverse = 1.0 / sqrt(sum_of_group(squares) / float(count) + p.epsilon * unit * unit);
  for (uint n = lane; n < count; n += THREADS) {
    uint c = first + n % p.size, at = n / p.size * d + c;
    float v = (x[at] * unit - mean) * inverse;
    if (WEIGHT) v *= weight[c] + p.weight_offset;
    if (BIAS) v += bias[c];
    finish(at, c, v);
  }
}
