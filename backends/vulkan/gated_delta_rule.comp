#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_delta_rule.glsl"

// One group for each head and tile of value channels, all tokens of the chunk in turn.
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
