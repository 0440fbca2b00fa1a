#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "mixer.glsl"
#include "state.glsl"
#include "gated_linear_attention.glsl"

// Eight tokens at a time, where the decay is of key channels and nothing is normalised. With A_t the product of the
// factors up to token t of the chunk, and A_t / A_s computed as the product of those between, never by dividing:
//   o_t = (q_t A_t) S + sum over s <= t of P[t, s] u_s,   P[t, s] = sum over i of q_t k_s A_t / A_s
//   S'  = A_last S + sum over s of (k_s A_last / A_s) u_s
// One group for each head and tile of value channels; the state stays in its registers. THREADS is a multiple of 8.
const uint C = 8u, PARTS = THREADS / C, COLUMNS = THREADS / SLICES;
const bool PER_CHANNEL = (DECAY_FLAGS & 1u) != 0u;
const uint FACTORS = PER_CHANNEL ? KEY_DIM : 1u;

shared float q[C * KEY_DIM], k[C * KEY_DIM];
shared float factor[C * FACTORS], all_factors[FACTORS];
shared float u[C * COLUMNS], products[C * C];
shared float partial[C * THREADS];

float factor_at(uint t, uint i) { return PER_CHANNEL ? factor[t * KEY_DIM + i] : factor[t]; }

// Rows of `count` tokens from t0 on, activated; zeros after them. The rows are normalised by a thread each (model.fbs:
// HeadMap).
#define LOAD_CHUNK(to, from, heads_, head_, ACTIVATION, NORM, epsilon)                                    \
  {                                                                                                       \
    for (uint n_ = lane; n_ < C * KEY_DIM; n_ += THREADS) {                                               \
      uint t_ = n_ / KEY_DIM;                                                                             \
      to[n_] = t_ < count                                                                                 \
                   ? activate(ACTIVATION, from[((t0 + t_) * (heads_) + (head_)) * KEY_DIM + n_ % KEY_DIM]) \
                   : 0.0;                                                                                 \
    }                                                                                                     \
    barrier();                                                                                            \
    if (NORM != 0u) {                                                                                     \
      if (lane < count) {                                                                                 \
        uint from_ = lane * KEY_DIM, end_ = from_ + KEY_DIM;                                              \
        float most_ = -kInfinity, sum_ = 0.0;                                                             \
        if (NORM == 2u) {                                                                                 \
          for (uint i_ = from_; i_ < end_; ++i_) most_ = to[i_] > most_ ? to[i_] : most_;                 \
          for (uint i_ = from_; i_ < end_; ++i_) to[i_] = exp_(to[i_] - most_);                           \
        }                                                                                                 \
        for (uint i_ = from_; i_ < end_; ++i_) sum_ += NORM == 1u ? to[i_] * to[i_] : to[i_];             \
        if (NORM == 1u) sum_ = sqrt(sum_ + epsilon);                                                      \
        if (NORM != 1u || sum_ != 0.0)                                                                    \
          for (uint i_ = from_; i_ < end_; ++i_) to[i_] = to[i_] / sum_;                                  \
      }                                                                                                   \
      barrier();                                                                                          \
    }                                                                                                     \
  }

// P for s of this thread and all t >= s, over its part of the key channels.
void multiply_keys(uint lane) {
  uint s = lane % C, part = lane / C;
  float sums[C];
  for (uint t = 0u; t < C; ++t) sums[t] = 0.0;
  for (uint i = part; i < KEY_DIM; i += PARTS) {
    float key = k[s * KEY_DIM + i];
    for (uint t = 0u; t < C; ++t) {
      if (t < s) continue;
      if (t > s) key *= factor_at(t, i);
      sums[t] += q[t * KEY_DIM + i] * key;
    }
  }
  for (uint t = 0u; t < C; ++t) partial[(part * C + t) * C + s] = sums[t];
}

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
    for (uint n = lane; n < C * FACTORS; n += THREADS)
      factor[n] = n / FACTORS < count ? decay_factor(t0 + n / FACTORS, h, n % FACTORS) : 1.0;
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
      multiply_keys(lane);
      barrier();
      for (uint n = lane; n < C * C; n += THREADS) {
        float sum = 0.0;
        for (uint part = 0u; part < PARTS; ++part) sum += partial[part * C * C + n];
        products[n] = sum;
      }
      for (uint i = lane; i < KEY_DIM; i += THREADS) {
        float f = 1.0;
        for (uint t = 0u; t < C; ++t) q[t * KEY_DIM + i] *= f *= factor_at(t, i);
      }
      barrier();
      for (uint t = 0u; t < C; ++t) {
        float y = 0.0;
        FOR_ROWS(n, i) {
          if (i < KEY_DIM) y += q[t * KEY_DIM + i] * state_rows[n];
        }
        partial[t * THREADS + lane] = y;
      }
      barrier();
      for (uint n = lane; n < C * COLUMNS; n += THREADS) {
        uint t = n / COLUMNS, at = first_column + n % COLUMNS;
        if (t >= count || at >= p.value_dim) continue;
        float y = 0.0;
        for (uint i = n % COLUMNS; i < THREADS; i += COLUMNS) y += partial[t * THREADS + i];
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
    for (uint i = lane; i < KEY_DIM; i += THREADS) {
      float f = 1.0;
      for (uint s = C; s > 0u; --s) {
        k[(s - 1u) * KEY_DIM + i] *= f;
        f *= factor_at(s - 1u, i);
      }
      if (i < FACTORS) all_factors[i] = f;
    }
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
