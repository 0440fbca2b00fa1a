#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "expert.glsl"

// y[t] (+)= sum over the slots of weight * down_e hidden: a group for each token and panel.
layout(std430, binding = 0) readonly buffer Hidden { float hidden[]; };
#define MATRIX_BINDING 1
#define MATRIX_BLOCK Down
#define MATRIX_WORDS down
#define MATRIX_DTYPE DTYPE0
#define MATRIX_LOAD load
#include "quads.glsl"
#include "slices.glsl"
layout(std430, binding = 2) readonly buffer Chosen { uint chosen[]; };
layout(std430, binding = 3) readonly buffer Weights { float weights[]; };
layout(std430, binding = 4) readonly buffer Residual { float residual[]; };
layout(std430, binding = 5) buffer Y { float y[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = product_lane(), panel = group_index() % p.panels, t = group_index() / p.panels;
  vec4 sums_of_slots = vec4(0.0), w[8];
  for (uint slot = 0u; slot < p.slots; ++slot) {
    uint expert = (p.flags & 1u) != 0u ? 0u : chosen[t * p.slots + slot];
    uint at = expert * p.panels + panel;
    if (at < p.first_panel || at >= p.first_panel + p.bound_panels) continue;
    at += p.skip0 - p.first_panel;
    vec4 sum = vec4(0.0);
    for (uint n = lane / 4u; n < units(p.k); n += SLICES) {
      load(at, lane % 4u, n, p.k, w);
      DOT(hidden, (t * p.slots + slot) * p.k, n, p.k, DTYPE0, w, sum)
    }
    sums_of_slots += weights[t * p.weight_row + p.weight_first + slot] * sum;
  }
  float total = add_slices(sums_of_slots);
  uint row = panel * 16u + lane, to = t * p.n + row;
  if (lane >= 16u || row >= p.n) return;
  if ((p.flags & 2u) != 0u) total += y[to];
  if ((p.flags & 4u) != 0u) total += residual[to];
  y[to] = total;
}
