#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "convolution.glsl"

// A group for each panel of 16 outputs and tile of pixels; a thread owns one output and every SLICES-th block of 32
// inputs, which the 16 threads of its slice fetch together.
const uint TILE = 8u;
#define MATRIX_BINDING 1
#define MATRIX_BLOCK W
#define MATRIX_WORDS w_words
#define MATRIX_DTYPE DTYPE
#define MATRIX_LOAD load
#include "matrix.glsl"
layout(std430, binding = 2) readonly buffer B { float bias[]; };
layout(std430, binding = 3) readonly buffer R { float residual[]; };
layout(std430, binding = 4) writeonly buffer Y { float y[]; };  // gated: all outputs, before the gate

shared float inputs[THREADS / 16u][TILE][32];
shared float sums[THREADS];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, r = lane & 15u, slice = lane / 16u, slices = THREADS / 16u;
  uint panel = p.first_panel + group_index() % p.panels, first = group_index() / p.panels * TILE;
  uint panels_of_group = (p.out_group + 15u) / 16u, g = panel / panels_of_group;
  uint k = p.kernel_height * p.kernel_width * p.in_group, blocks = (k + 31u) / 32u;
  float acc[TILE];
  for (uint t = 0u; t < TILE; ++t) acc[t] = 0.0;
  for (uint start = 0u; start < blocks; start += slices) {
    uint b = start + slice;
    barrier();
    for (uint n = r; n < TILE * 32u; n += 16u) {
      uint t = n / 32u, input_ = b * 32u + n % 32u, pixel = first + t;
      float v = 0.0;
      if (input_ < k && pixel < p.pixels) {
        uint tap = input_ / p.in_group;
        int at = tap_at(pixel / p.out_width, pixel % p.out_width, tap / p.kernel_width, tap % p.kernel_width);
        if (at >= 0) v = x[uint(at) + g * p.in_group + input_ % p.in_group];
      }
      inputs[slice][t][n % 32u] = v;
    }
    barrier();
    if (b < blocks) {
      float w[32];
      load(p.skip + panel - p.first_panel, r, b, k, w);
      for (uint t = 0u; t < TILE; ++t) {
        float sum = 0.0;
        for (uint i = 0u; i < 32u; ++i) sum += inputs[slice][t][i] * w[i];
        acc[t] += sum;
      }
    }
  }
  uint in_group = panel % panels_of_group * 16u + r, o = g * p.out_group + in_group;
  for (uint t = 0u; t < TILE; ++t) {
    barrier();
    sums[lane] = acc[t];
    barrier();
    uint pixel = first + t;
    if (lane >= 16u || in_group >= p.out_group || pixel >= p.pixels) continue;
    float v = BIAS ? bias[o] : 0.0;
    for (uint i = lane; i < THREADS; i += 16u) v += sums[i];
    uint at = pixel * p.outputs + o;
    if (!GATED) {
      v = activate(ACTIVATION, v);
      if (RESIDUAL) v += residual[at];
    }
    y[at] = v;
  }
}
