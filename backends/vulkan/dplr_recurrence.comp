#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "dplr_recurrence.glsl"

// One group for each head and tile of value channels, all tokens of the chunk in turn.
shared float r[KEY_DIM], k[KEY_DIM], a[KEY_DIM], removal[KEY_DIM], factor[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint h = group_index() / p.tiles, j = group_index() % p.tiles * columns + lane % columns;
  bool inside = j < p.value_dim;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t = 0u; t < p.tokens; ++t) {
    uint base = (t * p.heads + h) * KEY_DIM, own = h * KEY_DIM;
    float squares = 0.0, weight = 0.0;
    barrier();
    for (uint i = lane; i < KEY_DIM; i += THREADS) {
      float raw = k_in[base + i], rate = activate(RATE_ACTIVATION, a_in[base + i]);
      float c = HAS_REMOVAL ? removal_in[base + i] : REMOVAL_SCALE ? raw * removal_scale[own + i] : raw;
      squares += c * c;
      float key = RATE_MIX ? raw * (1.0 + (rate - 1.0) * rate_mix[own + i]) : raw;
      r[i] = r_in[base + i];
      a[i] = rate;
      removal[i] = c;
      k[i] = key;
      factor[i] = decay_factor(t, h, i);
      if (BONUS) weight += r[i] * key * bonus_scale[own + i];
    }
    if (!HAS_REMOVAL) {
      float norm = sqrt(sum_of_group(squares) + p.removal_epsilon);
      if (norm > 0.0)
        for (uint i = lane; i < KEY_DIM; i += THREADS) removal[i] /= norm;
    }
    if (BONUS) weight = sum_of_group(weight);
    barrier();
    uint at = (t * p.heads + h) * p.value_dim + j;
    float v = inside ? v_in[at] : 0.0;
    if (HAS_FIRST && inside) v += (first_in[at] - v) * sigmoid(mix_in[at]);
    float removed = 0.0;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) removed += removal[i] * s[n];
    }
    removed = limit_write(sum_of_column(removed));
    float y = 0.0;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) {
        s[n] = factor[i] * s[n] - removal[i] * a[i] * removed + k[i] * v;
        y += r[i] * s[n];
      }
    }
    y = sum_of_column(y) * p.scale;
    if (lane < columns && inside) {
      o[at] = y;
      if (BONUS) bonus[at] = weight * v;
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
