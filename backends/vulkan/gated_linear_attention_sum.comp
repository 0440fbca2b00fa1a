#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"

// z <- exp(g) z + k, once every group of gated_linear_attention has read z. Constants as there.
layout(constant_id = 3) const uint KEY_DIM = 1u;
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint DECAY_KIND = 0u;
layout(constant_id = 6) const uint DECAY_FLAGS = 0u;
layout(constant_id = 9) const uint KEY_ACTIVATION = 0u;
layout(constant_id = 10) const uint KEY_NORM = 0u;
const bool HAS_KEYS = (FLAGS & 1u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens;
  uint query_heads, key_heads, value_heads, heads, outputs;
  uint value_dim, tiles;
  float scale, normalizer_epsilon, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 1
#define RATE_BINDING 2
#define OFFSET_BINDING 3
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer K { float k_in[]; };
layout(std430, binding = 4) buffer Z { float state_sum[]; };

shared float k[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, h = group_index();
  for (uint t = 0u; t < p.tokens; ++t) {
    if (HAS_KEYS)
      LOAD_MAPPED(k, k_in, (t * p.key_heads + h / (p.heads / p.key_heads)) * KEY_DIM, KEY_DIM, KEY_ACTIVATION, KEY_NORM,
                  p.key_epsilon)
    // A thread's own channels: no other reads or writes them.
    for (uint i = lane; i < KEY_DIM; i += THREADS) {
      float f = decay_factor(t, h, i);
      state_sum[h * KEY_DIM + i] = f * state_sum[h * KEY_DIM + i] + (HAS_KEYS ? k[i] : 1.0 - f);
    }
  }
}
