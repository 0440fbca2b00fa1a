#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"
#include "state.glsl"

// One group for each head and tile of value channels, all tokens of the chunk in turn.
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint DECAY_KIND = 0u;
layout(constant_id = 6) const uint DECAY_FLAGS = 0u;
layout(constant_id = 7) const uint QUERY_ACTIVATION = 0u;
layout(constant_id = 8) const uint QUERY_NORM = 0u;
layout(constant_id = 9) const uint KEY_ACTIVATION = 0u;
layout(constant_id = 10) const uint KEY_NORM = 0u;
layout(constant_id = 11) const uint VALUE_ACTIVATION = 0u;
layout(constant_id = 12) const uint BETA_ACTIVATION = 0u;
const bool HAS_BETA = (FLAGS & 1u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens, key_heads, heads, value_dim, tiles;
  float scale, beta_scale, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 4
#define RATE_BINDING 5
#define OFFSET_BINDING 6
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer Q { float q_in[]; };
layout(std430, binding = 1) readonly buffer K { float k_in[]; };
layout(std430, binding = 2) readonly buffer V { float v_in[]; };
layout(std430, binding = 3) readonly buffer Beta { float beta_in[]; };
layout(std430, binding = 7) buffer S { float state[]; };
layout(std430, binding = 8) writeonly buffer O { float o[]; };

shared float q[KEY_DIM], k[KEY_DIM], factor[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint h = group_index() / p.tiles, j = group_index() % p.tiles * columns + lane % columns;
  bool inside = j < p.value_dim;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t = 0u; t < p.tokens; ++t) {
    uint base = (t * p.key_heads + h / (p.heads / p.key_heads)) * KEY_DIM;
    LOAD_MAPPED(q, q_in, base, KEY_DIM, QUERY_ACTIVATION, QUERY_NORM, p.query_epsilon)
    LOAD_MAPPED(k, k_in, base, KEY_DIM, KEY_ACTIVATION, KEY_NORM, p.key_epsilon)
    for (uint i = lane; i < KEY_DIM; i += THREADS) factor[i] = decay_factor(t, h, i);
    barrier();
    uint at = (t * p.heads + h) * p.value_dim + j;
    float v = inside ? activate(VALUE_ACTIVATION, v_in[at]) : 0.0;
    float beta = HAS_BETA ? activate(BETA_ACTIVATION, beta_in[t * p.heads + h]) * p.beta_scale : p.beta_scale;
    float recalled = 0.0;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) {
        s[n] *= factor[i];
        recalled += k[i] * s[n];
      }
    }
    float u = limit_write(beta * (v - sum_of_column(recalled))), y = 0.0;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) {
        s[n] += k[i] * u;
        y += q[i] * s[n];
      }
    }
    y = sum_of_column(y) * p.scale;
    if (lane < columns && inside) o[at] = y;
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
