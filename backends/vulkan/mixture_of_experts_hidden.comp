#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "expert.glsl"

// hidden[t, slot] = act(gate_e x) * up_e x: a group for each token, slot and panel.
layout(std430, binding = 0) readonly buffer X { float x[]; };
#define MATRIX_BINDING 1
#define MATRIX_BLOCK Gate
#define MATRIX_WORDS gate
#define MATRIX_DTYPE DTYPE0
#define MATRIX_LOAD load_gate
#include "quads.glsl"
#define MATRIX_BINDING 2
#define MATRIX_BLOCK Up
#define MATRIX_WORDS up
#define MATRIX_DTYPE DTYPE1
#define MATRIX_LOAD load_up
#include "quads.glsl"
#include "slices.glsl"
layout(std430, binding = 3) readonly buffer Chosen { uint chosen[]; };
layout(std430, binding = 4) writeonly buffer Hidden { float hidden[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = product_lane(), panel = group_index() % p.panels, slot = group_index() / p.panels % p.slots,
       t = group_index() / p.panels / p.slots;
  uint expert = (p.flags & 1u) != 0u ? 0u : chosen[t * p.slots + slot];
  uint at = expert * p.panels + panel;
  if (at < p.first_panel || at >= p.first_panel + p.bound_panels) return;
  at -= p.first_panel;
  vec4 of_gate = vec4(0.0), of_up = vec4(0.0), w[8];
  for (uint n = lane / 4u; n < units(p.k); n += SLICES) {
    load_gate(p.skip0 + at, lane % 4u, n, p.k, w);
    DOT(x, t * p.k, n, p.k, DTYPE0, w, of_gate)
    load_up(p.skip1 + at, lane % 4u, n, p.k, w);
    DOT(x, t * p.k, n, p.k, DTYPE1, w, of_up)
  }
  float a = add_slices(of_gate), b = add_slices(of_up);
  uint row = panel * 16u + lane;
  if (lane < 16u && row < p.n) hidden[(t * p.slots + slot) * p.n + row] = activate(ACTIVATION, a) * b;
}
