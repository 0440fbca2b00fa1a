#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_delta_rule.glsl"
#include "chunk.glsl"

// Eight tokens at a time (chunk.glsl). What a token writes depends on what those before it wrote, token by token but for
// each column alone and from eight numbers instead of the state (the UT transform of arXiv 2406.06484, solved forwards):
//   u_t = beta_t (v_t - (k_t A_t) S - sum over s < t of K[t, s] u_s),   K[t, s] = sum over i of k_t k_s A_t / A_s
//   o_t = (q_t A_t) S + sum over s <= t of P[t, s] u_s,                 P[t, s] = sum over i of q_t k_s A_t / A_s
//   S'  = A_last S + sum over s of (k_s A_last / A_s) u_s
// One group for each head and tile of value channels; the state stays in its registers.
shared float q[C * KEY_DIM], k[C * KEY_DIM], decayed_k[C * KEY_DIM];
shared float u[C * COLUMNS], beta[C], of_q[C * C], of_k[C * C];
shared float partial_q[C * THREADS], partial_k[C * THREADS];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, h = group_index() / p.tiles, first_column = group_index() % p.tiles * COLUMNS;
  uint column = lane % COLUMNS, j = first_column + column, key_head = h / (p.heads / p.key_heads);
  bool inside = j < p.value_dim;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t0 = 0u; t0 < p.tokens; t0 += C) {
    uint count = min(C, p.tokens - t0);
    barrier();
    LOAD_FACTORS(h)
    for (uint n = lane; n < C * COLUMNS; n += THREADS) {
      uint t = n / COLUMNS, at = first_column + n % COLUMNS;
      u[n] = t < count && at < p.value_dim
                 ? activate(VALUE_ACTIVATION, v_in[((t0 + t) * p.heads + h) * p.value_dim + at])
                 : 0.0;
    }
    if (lane < count)
      beta[lane] =
          HAS_BETA ? activate(BETA_ACTIVATION, beta_in[(t0 + lane) * p.heads + h]) * p.beta_scale : p.beta_scale;
    LOAD_CHUNK(k, k_in, p.key_heads, key_head, KEY_ACTIVATION, KEY_NORM, p.key_epsilon)
    LOAD_CHUNK(q, q_in, p.key_heads, key_head, QUERY_ACTIVATION, QUERY_NORM, p.query_epsilon)
    float sums[C];
    MULTIPLY_PAIRS(q, k, false, sums)
    STORE_PRODUCTS(sums, partial_q)
    MULTIPLY_PAIRS(k, k, false, sums)
    STORE_PRODUCTS(sums, partial_k)
    barrier();
    ADD_PRODUCTS(partial_q, of_q)
    ADD_PRODUCTS(partial_k, of_k)
    DECAY_FROM_START(q, q, false)
    DECAY_FROM_START(k, decayed_k, false)
    barrier();
    MULTIPLY_STATE(q, s, partial_q)
    MULTIPLY_STATE(decayed_k, s, partial_k)
    DECAY_TO_END(k)
    barrier();
    if (lane < COLUMNS) {
      for (uint t = 0u; t < count; ++t) {
        float recalled = 0.0;
        ADD_PARTS(partial_k, t, lane, recalled)
        for (uint n = 0u; n < t; ++n) recalled += of_k[t * C + n] * u[n * COLUMNS + lane];
        u[t * COLUMNS + lane] = limit_write(beta[t] * (u[t * COLUMNS + lane] - recalled));
      }
    }
    barrier();
    for (uint n = lane; n < C * COLUMNS; n += THREADS) {
      uint t = n / COLUMNS, at = first_column + n % COLUMNS;
      if (t >= count || at >= p.value_dim) continue;
      float y = 0.0;
      ADD_PARTS(partial_q, t, n % COLUMNS, y)
      for (uint m = 0u; m <= t; ++m) y += of_q[t * C + m] * u[m * COLUMNS + n % COLUMNS];
      o[((t0 + t) * p.heads + h) * p.value_dim + at] = y * p.scale;
    }
    FOR_ROWS(n, i) {
      if (i >= KEY_DIM) continue;
      float sum = all_factors[PER_CHANNEL ? i : 0u] * s[n];
      for (uint t = 0u; t < count; ++t) sum += k[t * KEY_DIM + i] * u[t * COLUMNS + column];
      s[n] = sum;
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
