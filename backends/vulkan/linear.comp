#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "product.glsl"

layout(std430, binding = 2) readonly buffer B0 { float bias0[]; };
#define MATRIX_BINDING 3
#define MATRIX_BLOCK W1
#define MATRIX_WORDS w1
#define MATRIX_DTYPE DTYPE1
#define MATRIX_LOAD load1
#include "matrix.glsl"
layout(std430, binding = 4) readonly buffer B1 { float bias1[]; };
layout(std430, binding = 5) readonly buffer R { float residual[]; };
layout(std430, binding = 6) readonly buffer P { float parts[]; };
layout(std430, binding = 7) writeonly buffer Y { float y[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, r = lane & 15u;
  uint panel = group_index() % p.panels, t0 = group_index() / p.panels * TILE;
  float acc0[TILE], acc1[TILE];
  for (uint t = 0u; t < TILE; ++t) acc0[t] = acc1[t] = 0.0;
  for (uint b = lane / 16u; b * 32u < p.k; b += THREADS / 16u) {
    uint count = min(32u, p.k - b * 32u);
    float w[32];
    load0(p.skip0 + panel, r, b, p.k, w);
    DOT(w, acc0)
    if (GATED) {
      load1(p.skip1 + panel, r, b, p.k, w);
      DOT(w, acc1)
    }
  }
  uint row = (p.first_panel + panel) * 16u + r;
  for (uint t = 0u; t < TILE; ++t) {
    float a = add_slices(acc0[t]), g = 0.0;
    if (GATED) g = add_slices(acc1[t]);
    if (lane >= 16u || row >= p.n || t0 + t >= p.rows) continue;
    if (BIAS0) a += bias0[row];
    a = activate(ACTIVATION, a);
    if (GATED) a *= BIAS1 ? g + bias1[row] : g;
    if (PART) a *= parts[p.part + row];
    uint at = (t0 + t) * p.n + row;
    if (RESIDUAL) a += residual[at];
    y[at] = a;
  }
}
