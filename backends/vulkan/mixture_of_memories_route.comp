#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// share[t, m] of every memory in a token: softmax, the best top_k divided by their sum, 0 for the others; 1 for
// the shared memory, which comes last. A thread does one token.
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, memories, all, top_k;
}
p;
layout(std430, binding = 0) readonly buffer Router { float router[]; };
layout(std430, binding = 1) buffer Shares { float shares[]; };

void main() {
  uint t = thread_index();
  if (t >= p.tokens) return;
  float most = -kInfinity;
  for (uint m = 0u; m < p.memories; ++m) most = max(most, router[t * p.memories + m]);
  for (uint m = 0u; m < p.all; ++m) shares[t * p.all + m] = m < p.memories ? 0.0 : 1.0;
  float sum = 0.0;
  for (uint i = 0u; i < p.top_k; ++i) {
    uint best = p.memories;
    for (uint m = 0u; m < p.memories; ++m) {
      if (shares[t * p.all + m] != 0.0) continue;
      if (best == p.memories || router[t * p.memories + m] > router[t * p.memories + best]) best = m;
    }
    if (best == p.memories) break;
    float share = exp_(router[t * p.memories + best] - most);
    // A share too small to count must not be chosen twice.
    shares[t * p.all + best] = max(share, 1e-30);
    sum += share;
  }
  for (uint m = 0u; m < p.memories; ++m) shares[t * p.all + m] /= sum;
}
