#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"

// Constants: 1 dtype of the table.
layout(constant_id = 1) const uint DTYPE = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, k;
  uint first_panel, panels;  // of this part of the table
  float scale;
}
p;

#define MATRIX_BINDING 1
#define MATRIX_BLOCK Table
#define MATRIX_WORDS table
#define MATRIX_DTYPE DTYPE
#define MATRIX_LOAD load
#include "matrix.glsl"
layout(std430, binding = 0) readonly buffer Ids { int ids[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

// A thread writes 32 channels of a token.
void main() {
  uint blocks = (p.k + 31u) / 32u;
  uint t = thread_index() / blocks, b = thread_index() % blocks;
  if (t >= p.tokens) return;
  uint id = uint(ids[t]), panel = id / 16u;
  if (panel < p.first_panel || panel >= p.first_panel + p.panels) return;
  float w[32];
  load(panel - p.first_panel, id % 16u, b, p.k, w);
  uint count = min(32u, p.k - b * 32u);
  for (uint i = 0u; i < count; ++i) y[t * p.k + b * 32u + i] = w[i] * p.scale;
}
