#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "dplr_recurrence.glsl"
#include "chunk.glsl"

// Eight tokens at a time (chunk.glsl). With c_t the removal key, b_t = c_t a_t and [x, y](t, s) the sum over key channels of
// x_t y_s A_(t - 1) / A_s, what a token removes is found token by token, but for each column alone and from sixteen numbers
// instead of the state:
//   w_t = (c_t A_(t - 1)) S + sum over s < t of [c, k](t, s) v_s - [c, b](t, s) w_s
//   o_t = (r_t A_t) S + the same sum for r_t and s <= t, with A_t for A_(t - 1)
//   S'  = A_last S + sum over s of (k_s A_last / A_s) v_s - (b_s A_last / A_s) w_s
// One group for each head and tile of value channels; the state stays in its registers.
shared float r[C * KEY_DIM], k[C * KEY_DIM], b[C * KEY_DIM], removal[C * KEY_DIM];
shared float v[C * COLUMNS], w[C * COLUMNS], weight[C];
shared float r_k[C * C], r_b[C * C], removal_k[C * C], removal_b[C * C];
shared float partial_k[C * THREADS], partial_b[C * THREADS];

// Values and keys of the chunk's `count` tokens from t0 on; beyond them zeros.
void load_chunk(uint t0, uint count, uint h, uint first_column) {
  uint lane = gl_LocalInvocationID.x, own = h * KEY_DIM;
  for (uint n = lane; n < C * COLUMNS; n += THREADS) {
    uint t = n / COLUMNS, at = first_column + n % COLUMNS;
    v[n] = 0.0;
    if (t >= count || at >= p.value_dim) continue;
    at += ((t0 + t) * p.heads + h) * p.value_dim;
    v[n] = v_in[at];
    if (HAS_FIRST) v[n] += (first_in[at] - v[n]) * sigmoid(mix_in[at]);
  }
  for (uint n = lane; n < C * KEY_DIM; n += THREADS) {
    uint t = n / KEY_DIM, i = n % KEY_DIM, at = ((t0 + t) * p.heads + h) * KEY_DIM + i;
    r[n] = k[n] = b[n] = removal[n] = 0.0;
    if (t >= count) continue;
    float raw = k_in[at], rate = activate(RATE_ACTIVATION, a_in[at]);
    r[n] = r_in[at];
    k[n] = RATE_MIX ? raw * (1.0 + (rate - 1.0) * rate_mix[own + i]) : raw;
    b[n] = rate;
    removal[n] = HAS_REMOVAL ? removal_in[at] : REMOVAL_SCALE ? raw * removal_scale[own + i] : raw;
  }
  barrier();
  if (lane < count) {
    float sum = 0.0, squares = 0.0;
    for (uint i = lane * KEY_DIM; i < (lane + 1u) * KEY_DIM; ++i) {
      squares += removal[i] * removal[i];
      if (BONUS) sum += r[i] * k[i] * bonus_scale[own + i - lane * KEY_DIM];
    }
    weight[lane] = sum;
    float norm = HAS_REMOVAL ? 0.0 : sqrt(squares + p.removal_epsilon);
    for (uint i = lane * KEY_DIM; i < (lane + 1u) * KEY_DIM; ++i) {
      if (norm > 0.0) removal[i] /= norm;
      b[i] *= removal[i];
    }
  }
  barrier();
}

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, h = group_index() / p.tiles, first_column = group_index() % p.tiles * COLUMNS;
  uint column = lane % COLUMNS, j = first_column + column;
  bool inside = j < p.value_dim;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t0 = 0u; t0 < p.tokens; t0 += C) {
    uint count = min(C, p.tokens - t0);
    barrier();
    LOAD_FACTORS(h)
    load_chunk(t0, count, h, first_column);
    float sums[C];
    MULTIPLY_PAIRS(removal, k, true, sums)
    STORE_PRODUCTS(sums, partial_k)
    MULTIPLY_PAIRS(removal, b, true, sums)
    STORE_PRODUCTS(sums, partial_b)
    barrier();
    ADD_PRODUCTS(partial_k, removal_k)
    ADD_PRODUCTS(partial_b, removal_b)
    barrier();
    MULTIPLY_PAIRS(r, k, false, sums)
    STORE_PRODUCTS(sums, partial_k)
    MULTIPLY_PAIRS(r, b, false, sums)
    STORE_PRODUCTS(sums, partial_b)
    barrier();
    ADD_PRODUCTS(partial_k, r_k)
    ADD_PRODUCTS(partial_b, r_b)
    DECAY_FROM_START(r, r, false)
    DECAY_FROM_START(removal, removal, true)
    DECAY_TO_END(k)
    DECAY_TO_END(b)
    barrier();
    MULTIPLY_STATE(r, s, partial_k)
    MULTIPLY_STATE(removal, s, partial_b)
    barrier();
    if (lane < COLUMNS) {
      for (uint t = 0u; t < count; ++t) {
        float removed = 0.0;
        ADD_PARTS(partial_b, t, lane, removed)
        for (uint m = 0u; m < t; ++m)
          removed += removal_k[t * C + m] * v[m * COLUMNS + lane] - removal_b[t * C + m] * w[m * COLUMNS + lane];
        w[t * COLUMNS + lane] = limit_write(removed);
      }
    }
    barrier();
    for (uint n = lane; n < C * COLUMNS; n += THREADS) {
      uint t = n / COLUMNS, at = first_column + n % COLUMNS;
      if (t >= count || at >= p.value_dim) continue;
      float y = 0.0;
      ADD_PARTS(partial_k, t, n % COLUMNS, y)
      for (uint m = 0u; m <= t; ++m)
        y += r_k[t * C + m] * v[m * COLUMNS + n % COLUMNS] - r_b[t * C + m] * w[m * COLUMNS + n % COLUMNS];
      at += ((t0 + t) * p.heads + h) * p.value_dim;
      o[at] = y * p.scale;
      if (BONUS) bonus[at] = weight[t] * v[n];
    }
    FOR_ROWS(n, i) {
      if (i >= KEY_DIM) continue;
      float sum = all_factors[PER_CHANNEL ? i : 0u] * s[n];
      for (uint t = 0u; t < count; ++t)
        sum += k[t * KEY_DIM + i] * v[t * COLUMNS + column] - b[t * KEY_DIM + i] * w[t * COLUMNS + column];
      s[n] = sum;
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
