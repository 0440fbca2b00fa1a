#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_linear_attention.glsl"
#include "chunk.glsl"

// Eight tokens at a time (chunk.glsl), where the decay is of key channels and nothing is normalised:
//   o_t = (q_t A_t) S + sum over s <= t of P[t, s] u_s,   P[t, s] = sum over i of q_t k_s A_t / A_s
//   S'  = A_last S + sum over s of (k_s A_last / A_s) u_s
// One group for each head and tile of value channels; the state stays in its registers.
shared float q[C * KEY_DIM], k[C * KEY_DIM];
shared float u[C * COLUMNS], products[C * C];
shared float partial[C * THREADS];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, h = group_index() / p.tiles, first_column = group_index() % p.tiles * COLUMNS;
  uint column = lane % COLUMNS, j = first_column + column;
  bool inside = j < p.value_dim;
  float state_rows[ROWS];
  FOR_ROWS(n, i) state_rows[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t0 = 0u; t0 < p.tokens; t0 += C) {
    uint count = min(C, p.tokens - t0);
    barrier();
    LOAD_FACTORS(h)
    for (uint n = lane; n < C * COLUMNS; n += THREADS) {
      uint t = n / COLUMNS, at = first_column + n % COLUMNS;
      float v = 0.0;
      if (t < count && at < p.value_dim) {
        v = activate(VALUE_ACTIVATION,
                     v_in[((t0 + t) * p.value_heads + h / (p.heads / p.value_heads)) * p.value_dim + at]);
        if (STEP_WRITES) v *= decay_step(t0 + t, h, 0u);
      }
      u[n] = v;
    }
    if (HAS_KEYS) {
      LOAD_CHUNK(k, k_in, p.key_heads, h / (p.heads / p.key_heads), KEY_ACTIVATION, KEY_NORM, p.key_epsilon)
    } else {
      barrier();
      for (uint n = lane; n < C * KEY_DIM; n += THREADS)
        k[n] = n / KEY_DIM < count ? 1.0 - factor_at(n / KEY_DIM, n % KEY_DIM) : 0.0;
      barrier();
    }
    uint share = p.outputs / p.heads;
    for (uint out_head = h * share; out_head < (h + 1u) * share; ++out_head) {
      LOAD_CHUNK(q, q_in, p.query_heads, out_head / (p.outputs / p.query_heads), QUERY_ACTIVATION, QUERY_NORM,
                 p.query_epsilon)
      float sums[C];
      MULTIPLY_PAIRS(q, k, false, sums)
      STORE_PRODUCTS(sums, partial)
      barrier();
      ADD_PRODUCTS(partial, products)
      DECAY_FROM_START(q, q, false)
      barrier();
      MULTIPLY_STATE(q, state_rows, partial)
      barrier();
      for (uint n = lane; n < C * COLUMNS; n += THREADS) {
        uint t = n / COLUMNS, at = first_column + n % COLUMNS;
        if (t >= count || at >= p.value_dim) continue;
        float y = 0.0;
        ADD_PARTS(partial, t, n % COLUMNS, y)
        for (uint s = 0u; s <= t; ++s) y += products[t * C + s] * u[s * COLUMNS + n % COLUMNS];
        y *= p.scale;
        if (SKIP)
          y += skip[out_head] *
               activate(VALUE_ACTIVATION,
                        v_in[((t0 + t) * p.value_heads + h / (p.heads / p.value_heads)) * p.value_dim + at]);
        o[((t0 + t) * p.outputs + out_head) * p.value_dim + at] = y;
      }
      barrier();
    }
    DECAY_TO_END(k)
    barrier();
    FOR_ROWS(n, i) {
      if (i >= KEY_DIM) continue;
      float sum = all_factors[PER_CHANNEL ? i : 0u] * state_rows[n];
      for (uint s = 0u; s < C; ++s) sum += k[s * KEY_DIM + i] * u[s * COLUMNS + column];
      state_rows[n] = sum;
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = state_rows[n];
  }
}
