#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_linear_attention.glsl"
#define VALUE_DECAY DECAY_VALUES
#include "chunk.glsl"

// Eight tokens at a time (chunk.glsl). A is the decay of the head or of its key channels, B that of a value channel j;
// the other is one:
//   o_t[j] = B_t (q_t A_t) S + sum over s <= t of P[t, s] u_s B_t / B_s,   P[t, s] = sum over i of q_t k_s A_t / A_s
//   S'     = A_last B_last S + sum over s of (k_s A_last / A_s) u_s B_last / B_s
// A normaliser is a column of u = 1, of which every tile has a copy:
//   o_t is divided by (q_t A_t) z + sum over s <= t of P[t, s];   z' = A_last z + sum over s of k_s A_last / A_s
// One group for each head and tile of value channels; the state stays in its registers.
shared float q[C * KEY_DIM], k[C * KEY_DIM];
shared float u[C * COLUMNS], products[C * C];
shared float partial[C * THREADS];
shared float z[NORMALIZED ? KEY_DIM : 1u], below[C];

// Value channel `at` of the token for this head, after its activation.
float value_of(uint token, uint h, uint at) {
  return activate(VALUE_ACTIVATION, v_in[(token * p.value_heads + h / (p.heads / p.value_heads)) * p.value_dim + at]);
}

// What the chunk's `count` tokens from t0 on write, and with DECAY_VALUES their factors; beyond them nothing.
void load_values(uint t0, uint count, uint h, uint first_column) {
  for (uint n = gl_LocalInvocationID.x; n < C * COLUMNS; n += THREADS) {
    uint t = n / COLUMNS, at = first_column + n % COLUMNS;
    bool used = t < count && at < p.value_dim;
    if (DECAY_VALUES) factor[n] = used ? decay_factor(t0 + t, h, at) : 1.0;
    float v = 0.0;
    if (used) {
      v = HAS_VALUES ? value_of(t0 + t, h, at) : 1.0 - factor[n];
      if (STEP_WRITES) v *= decay_step(t0 + t, h, 0u);
    }
    u[n] = v;
  }
}

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, h = group_index() / p.tiles, first_column = group_index() % p.tiles * COLUMNS;
  uint column = lane % COLUMNS, j = first_column + column;
  bool inside = j < p.value_dim;
  float state_rows[ROWS];
  FOR_ROWS(n, i) state_rows[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  if (NORMALIZED) LOAD_SUM(z, h)
  for (uint t0 = 0u; t0 < p.tokens; t0 += C) {
    uint count = min(C, p.tokens - t0);
    barrier();
    if (!DECAY_VALUES) LOAD_FACTORS(h)
    load_values(t0, count, h, first_column);
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
      if (!DECAY_VALUES) DECAY_FROM_START(q, q, false)
      barrier();
      MULTIPLY_STATE(q, state_rows, partial)
      if (NORMALIZED) MULTIPLY_COLUMN(q, z, slices)
      barrier();
      if (NORMALIZED) {
        if (lane < C) {
          float sum = 0.0;
          ADD_COLUMN(slices, lane, sum)
          for (uint s = 0u; s <= lane; ++s) sum += products[lane * C + s];
          below[lane] = sum * p.scale + p.normalizer_epsilon;
        }
        barrier();
      }
      for (uint n = lane; n < C * COLUMNS; n += THREADS) {
        uint t = n / COLUMNS, c = n % COLUMNS, at = first_column + c;
        if (t >= count || at >= p.value_dim) continue;
        float y = 0.0;
        ADD_PARTS(partial, t, c, y)
        for (uint s = 0u; s <= t; ++s)
          y = (DECAY_VALUES ? factor[s * COLUMNS + c] * y : y) + products[t * C + s] * u[s * COLUMNS + c];
        y *= p.scale;
        if (NORMALIZED) y /= below[t];
        if (SKIP) y += skip[out_head] * value_of(t0 + t, h, at);
        o[((t0 + t) * p.outputs + out_head) * p.value_dim + at] = y;
      }
      barrier();
    }
    if (DECAY_VALUES) {
      if (lane < COLUMNS) {
        float f = 1.0;
        for (uint s = C; s > 0u; --s) {
          u[(s - 1u) * COLUMNS + lane] *= f;
          f *= factor[(s - 1u) * COLUMNS + lane];
        }
        all_factors[lane] = f;
      }
    } else {
      DECAY_TO_END(k)
    }
    barrier();
    FOR_ROWS(n, i) {
      if (i >= KEY_DIM) continue;
      float sum = all_factors[DECAY_VALUES ? column : PER_CHANNEL ? i : 0u] * state_rows[n];
      for (uint s = 0u; s < C; ++s) sum += k[s * KEY_DIM + i] * u[s * COLUMNS + column];
      state_rows[n] = sum;
    }
    if (NORMALIZED)
      for (uint i = lane; i < KEY_DIM; i += THREADS) {
        float sum = all_factors[PER_CHANNEL ? i : 0u] * z[i];
        for (uint s = 0u; s < C; ++s) sum += k[s * KEY_DIM + i];
        z[i] = sum;
      }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = state_rows[n];
  }
  if (NORMALIZED) STORE_SUM(z, h)
}
