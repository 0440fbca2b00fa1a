#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "product.glsl"
#define MATRIX_BINDING 1
#define MATRIX_BLOCK W0
#define MATRIX_WORDS w0
#define MATRIX_DTYPE DTYPE0
#define MATRIX_LOAD load0
#include "quads.glsl"

layout(std430, binding = 2) readonly buffer B0 { float bias0[]; };
#define MATRIX_BINDING 3
#define MATRIX_BLOCK W1
#define MATRIX_WORDS w1
#define MATRIX_DTYPE DTYPE1
#define MATRIX_LOAD load1
#include "quads.glsl"
#include "slices.glsl"
layout(std430, binding = 4) readonly buffer B1 { float bias1[]; };
layout(std430, binding = 5) readonly buffer R { float residual[]; };
layout(std430, binding = 6) readonly buffer P { float parts[]; };
layout(std430, binding = 7) writeonly buffer Y { float y[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = product_lane(), panel = group_index() % p.panels, t0 = group_index() / p.panels * TILE;
  vec4 acc0[TILE], acc1[TILE];
  for (uint t = 0u; t < TILE; ++t) acc0[t] = acc1[t] = vec4(0.0);
  for (uint n = lane / 4u; n < units(p.k); n += SLICES) {
    vec4 w[8];
    load0(p.skip0 + panel, lane % 4u, n, p.k, w);
    for (uint t = 0u; t < TILE; ++t) DOT(x, min(t0 + t, p.rows - 1u) * p.k, n, p.k, DTYPE0, w, acc0[t])
    if (GATED) {
      load1(p.skip1 + panel, lane % 4u, n, p.k, w);
      for (uint t = 0u; t < TILE; ++t) DOT(x, min(t0 + t, p.rows - 1u) * p.k, n, p.k, DTYPE1, w, acc1[t])
    }
  }
  uint row = (p.first_panel + panel) * 16u + lane;
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
