#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// The factors by which the state decays when a token enters it, from its key before rope: a thread for each token,
// head of the state and feature.
layout(constant_id = 1) const uint DECAY_KIND = 0u;
layout(constant_id = 2) const uint DECAY_FLAGS = 0u;
#include "decay_push.glsl"
layout(push_constant) uniform Push {
  uint groups;
  uint count, heads, kv_heads, features;
  DECAY_PUSH
}
p;
// The input has the kv head's channels, the offset those of the state's head.
#define DECAY_INPUT_AT(h, at) (h / (p.heads / p.kv_heads) * p.decay_channels + (at) % p.decay_channels)
#define DECAY_BINDING 0
#define RATE_BINDING 1
#define OFFSET_BINDING 2
#include "decay.glsl"
layout(std430, binding = 3) writeonly buffer Y { float y[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint i = n % p.features, h = n / p.features % p.heads, t = n / p.features / p.heads;
  y[n] = decay_factor(t, h, i);
}
