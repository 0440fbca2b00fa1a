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
#include "matrix.glsl"
#define MATRIX_BINDING 2
#define MATRIX_BLOCK Up
#define MATRIX_WORDS up
#define MATRIX_DTYPE DTYPE1
#define MATRIX_LOAD load_up
#include "matrix.glsl"
layout(std430, binding = 3) readonly buffer Chosen { uint chosen[]; };
layout(std430, binding = 4) writeonly buffer Hidden { float hidden[]; };

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, r = lane & 15u;
  uint panel = group_index() % p.panels, slot = group_index() / p.panels % p.slots,
       t = group_index() / p.panels / p.slots;
  uint expert = (p.flags & 1u) != 0u ? 0u : chosen[t * p.slots + slot];
  uint at = expert * p.panels + panel;
  if (at < p.first_panel || at >= p.first_panel + p.bound_panels) return;
  at -= p.first_panel;
  float a = 0.0, b = 0.0, w[32];
  for (uint block = lane / 16u; block * 32u < p.k; block += THREADS / 16u) {
    uint count = min(32u, p.k - block * 32u);
    load_gate(p.skip0 + at, r, block, p.k, w);
    DOT(x, t * p.k + block * 32u, w, a)
    load_up(p.skip1 + at, r, block, p.k, w);
    DOT(x, t * p.k + block * 32u, w, b)
  }
  a = add_slices(a);
  b = add_slices(b);
  uint row = panel * 16u + r;
  if (lane < 16u && row < p.n) hidden[(t * p.slots + slot) * p.n + row] = activate(ACTIVATION, a) * b;
}
