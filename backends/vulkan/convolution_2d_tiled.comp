#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "convolution.glsl"

// Convolutions without groups over many pixels: a group makes 32 pixels x 64 outputs, a thread 4 x 4 of them. A block of
// 32 inputs of both sides goes through shared memory, as in linear_tiled.glsl. Constant 0 is 128.
#define MATRIX_BINDING 1
#define MATRIX_BLOCK W
#define MATRIX_WORDS w_words
#define MATRIX_DTYPE DTYPE
#define MATRIX_LOAD load
#include "matrix.glsl"
layout(std430, binding = 2) readonly buffer B { float bias[]; };
layout(std430, binding = 3) readonly buffer R { float residual[]; };
layout(std430, binding = 4) writeonly buffer Y { float y[]; };  // gated: all outputs, before the gate

const uint PIXELS = 32u, OUTPUTS = 64u;
shared float inputs[32][PIXELS + 1u], weights[32][OUTPUTS];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, r = lane & 15u, own = lane / 16u * 4u;
  uint across = (p.panels + 3u) / 4u;
  uint panel = group_index() % across * 4u, first = group_index() / across * PIXELS;
  uint k = p.kernel_height * p.kernel_width * p.in_group;
  float acc[4][4];
  for (uint s = 0u; s < 4u; ++s)
    for (uint t = 0u; t < 4u; ++t) acc[s][t] = 0.0;
  for (uint b = 0u; b * 32u < k; ++b) {
    barrier();
    if (lane < OUTPUTS) {
      float w[32];
      if (panel + lane / 16u < p.panels) {
        load(p.skip + panel + lane / 16u, r, b, k, w);
      } else {
        for (uint i = 0u; i < 32u; ++i) w[i] = 0.0;
      }
      for (uint i = 0u; i < 32u; ++i) weights[i][lane] = w[i];
    } else {
      for (uint n = lane - OUTPUTS; n < PIXELS * 32u; n += OUTPUTS) {
        uint t = n / 32u, i = n % 32u, input_ = b * 32u + i, pixel = first + t;
        float v = 0.0;
        if (input_ < k && pixel < p.pixels) {
          uint tap = input_ / p.in_group;
          int at = tap_at(pixel / p.out_width, pixel % p.out_width, tap / p.kernel_width, tap % p.kernel_width);
          if (at >= 0) v = x[uint(at) + input_ % p.in_group];
        }
        inputs[i][t] = v;
      }
    }
    barrier();
    for (uint i = 0u; i < 32u; ++i) {
      float a[4];
      for (uint t = 0u; t < 4u; ++t) a[t] = inputs[i][own + t];
      for (uint s = 0u; s < 4u; ++s) {
        float w = weights[i][s * 16u + r];
        for (uint t = 0u; t < 4u; ++t) acc[s][t] += a[t] * w;
      }
    }
  }
  for (uint s = 0u; s < 4u; ++s) {
    uint o = (p.first_panel + panel + s) * 16u + r;
    if (panel + s >= p.panels || o >= p.outputs) continue;
    for (uint t = 0u; t < 4u; ++t) {
      uint pixel = first + own + t, at = pixel * p.outputs + o;
      if (pixel >= p.pixels) continue;
      float v = acc[s][t] + (BIAS ? bias[o] : 0.0);
      if (!GATED) {
        v = activate(ACTIVATION, v);
        if (RESIDUAL) v += residual[at];
      }
      y[at] = v;
    }
  }
}
