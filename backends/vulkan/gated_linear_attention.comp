#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_linear_attention.glsl"

// One group for each head and tile of value channels, all tokens of the run in turn.
shared float q[KEY_DIM], k[KEY_DIM], factor[KEY_DIM], z[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint h = group_index() / p.tiles, j = group_index() % p.tiles * columns + lane % columns;
  bool inside = j < p.value_dim, first = lane < columns;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  if (NORMALIZED) LOAD_SUM(z, h)
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
  if (NORMALIZED) STORE_SUM(z, h)
}
