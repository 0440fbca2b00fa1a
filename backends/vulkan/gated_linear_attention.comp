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
const bool HAS_KEYS = (FLAGS & 1u) != 0u, HAS_VALUES = (FLAGS & 2u) != 0u, DECAY_VALUES = (FLAGS & 4u) != 0u,
           STEP_WRITES = (FLAGS & 8u) != 0u, NORMALIZED = (FLAGS & 16u) != 0u, SKIP = (FLAGS & 32u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens;
  uint query_heads, key_heads, value_heads, heads, outputs;
  uint value_dim, tiles;
  float scale, normalizer_epsilon, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 3
#define RATE_BINDING 4
#define OFFSET_BINDING 5
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer Q { float q_in[]; };
layout(std430, binding = 1) readonly buffer K { float k_in[]; };
layout(std430, binding = 2) readonly buffer V { float v_in[]; };
layout(std430, binding = 6) readonly buffer Skip { float skip[]; };
layout(std430, binding = 7) buffer S { float state[]; };
layout(std430, binding = 8) readonly buffer Z { float state_sum[]; };
layout(std430, binding = 9) writeonly buffer O { float o[]; };

shared float q[KEY_DIM], k[KEY_DIM], factor[KEY_DIM], z[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint h = group_index() / p.tiles, j = group_index() % p.tiles * columns + lane % columns;
  bool inside = j < p.value_dim, first = lane < columns;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  if (NORMALIZED)
    for (uint i = lane; i < KEY_DIM; i += THREADS) z[i] = state_sum[h * KEY_DIM + i];
  for (uint t = 0u; t < p.tokens; ++t) {
    if (HAS_KEYS)
      LOAD_MAPPED(k, k_in, (t * p.key_heads + h / (p.heads / p.key_heads)) * KEY_DIM, KEY_DIM, KEY_ACTIVATION, KEY_NORM,
                  p.key_epsilon)
    barrier();
    for (uint i = lane; i < KEY_DIM; i += THREADS) {
      float f = DECAY_VALUES ? 1.0 : decay_factor(t, h, i);
      factor[i] = f;
      if (!HAS_KEYS) k[i] = 1.0 - f;
      if (NORMALIZED) z[i] = f * z[i] + k[i];
    }
    barrier();
    float column_factor = DECAY_VALUES && inside ? decay_factor(t, h, j) : 1.0;
    float v = 0.0;
    if (inside)
      v = HAS_VALUES ? activate(VALUE_ACTIVATION,
                                v_in[(t * p.value_heads + h / (p.heads / p.value_heads)) * p.value_dim + j])
                     : 1.0 - column_factor;
    float u = STEP_WRITES ? decay_step(t, h, 0u) * v : v;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) s[n] = (DECAY_VALUES ? column_factor : factor[i]) * s[n] + k[i] * u;
    }
    uint share = p.outputs / p.heads;
    for (uint out_head = h * share; out_head < (h + 1u) * share; ++out_head) {
      LOAD_MAPPED(q, q_in, (t * p.query_heads + out_head / (p.outputs / p.query_heads)) * KEY_DIM, KEY_DIM,
                  QUERY_ACTIVATION, QUERY_NORM, p.query_epsilon)
      float below = 1.0;
      if (NORMALIZED) {
        float part = 0.0;
        for (uint i = lane; i < KEY_DIM; i += THREADS) part += q[i] * z[i];
        below = sum_of_group(part) * p.scale + p.normalizer_epsilon;
      }
      float y = 0.0;
      FOR_ROWS(n, i) {
        if (i < KEY_DIM) y += q[i] * s[n];
      }
      y = sum_of_column(y) * p.scale / below;
      if (!first || !inside) continue;
      if (SKIP) y += skip[out_head] * v;
      o[(t * p.outputs + out_head) * p.value_dim + j] = y;
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
