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
#include "slices.glsl"

layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = product_lane(), panel = group_index() % p.panels, t0 = group_index() / p.panels * TILE;
  vec4 acc[TILE];
  for (uint t = 0u; t < TILE; ++t) acc[t] = vec4(0.0);
  for (uint n = lane / 4u; n < units(p.k); n += SLICES) {
    vec4 w[8];
    load0(p.skip0 + panel, lane % 4u, n, p.k, w);
    for (uint t = 0u; t < TILE; ++t)
      DOT(x, (p.first_token + min(t0 + t, p.rows - 1u)) * p.k, n, p.k, DTYPE0, w, acc[t])
  }
  uint row = (p.first_panel + panel) * 16u + lane;
  for (uint t = 0u; t < TILE; ++t) {
    float a = add_slices(acc[t]) * p.scale;
    if (lane >= 16u || row >= p.n || t0 + t >= p.rows) continue;
    if (p.softcap > 0.0) a = p.softcap * tanh_(a / p.softcap);
    y[(t0 + t) * p.n + row] = a;
  }
}
