#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "product.glsl"

layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, r = lane & 15u;
  uint panel = group_index() % p.panels, t0 = group_index() / p.panels * TILE;
  float acc[TILE];
  for (uint t = 0u; t < TILE; ++t) acc[t] = 0.0;
  for (uint b = lane / 16u; b * 32u < p.k; b += THREADS / 16u) {
    uint count = min(32u, p.k - b * 32u);
    float w[32];
    load0(p.skip0 + panel, r, b, p.k, w);
    DOT(w, acc)
  }
  uint row = (p.first_panel + panel) * 16u + r;
  for (uint t = 0u; t < TILE; ++t) {
    float a = add_slices(acc[t]) * p.scale;
    if (lane >= 16u || row >= p.n || t0 + t >= p.rows) continue;
    if (p.softcap > 0.0) a = p.softcap * tanh_(a / p.softcap);
    y[(t0 + t) * p.n + row] = a;
  }
}
