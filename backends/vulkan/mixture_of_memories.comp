#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "mixer.glsl"
#include "state.glsl"

// The gated delta rule of one memory over the tokens routed to it: one group for each memory, head and tile of
// value channels. Memories that a token does not choose stay as they are.
#include "mixer_constants.glsl"
layout(constant_id = 12) const uint BETA_ACTIVATION = 0u;

// Rows of q, k, v: `stride` apart for each memory (0: the same for all), `row` for each token, `first` for each
// memory within a row.
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, heads, value_dim, tiles, all;
  uint q_stride, k_stride, v_stride, q_row, k_row, v_row, k_first, v_first, beta_row, beta_first, decay_first;
  float scale, beta_scale, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
uint decay_base = 0u;
#define DECAY_BASE decay_base
#define DECAY_BINDING 4
#define RATE_BINDING 5
#define OFFSET_BINDING 6
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer Q { float q_in[]; };
layout(std430, binding = 1) readonly buffer K { float k_in[]; };
layout(std430, binding = 2) readonly buffer V { float v_in[]; };
layout(std430, binding = 3) readonly buffer Beta { float beta_in[]; };
layout(std430, binding = 7) readonly buffer Shares { float shares[]; };
layout(std430, binding = 8) buffer S { float state[]; };
layout(std430, binding = 9) writeonly buffer O { float o[]; };  // [all, tokens, heads * value_dim]

shared float q[KEY_DIM], k[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint m = group_index() / p.tiles / p.heads, h = group_index() / p.tiles % p.heads;
  uint j = group_index() % p.tiles * columns + lane % columns, own = m * p.heads + h;
  bool inside = j < p.value_dim;
  decay_base = m * p.decay_first;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(own * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint t = 0u; t < p.tokens; ++t) {
    float share = shares[t * p.all + m];
    uint at = ((m * p.tokens + t) * p.heads + h) * p.value_dim + j;
    if (share == 0.0) {
      if (lane < columns && inside) o[at] = 0.0;
      continue;
    }
    LOAD_MAPPED(q, q_in, m * p.q_stride + t * p.q_row + h * KEY_DIM, KEY_DIM, QUERY_ACTIVATION, QUERY_NORM,
                p.query_epsilon)
    LOAD_MAPPED(k, k_in, m * (p.k_stride + p.k_first) + t * p.k_row + h * KEY_DIM, KEY_DIM, KEY_ACTIVATION, KEY_NORM,
                p.key_epsilon)
    float v = 0.0, factor = decay_factor(t, h, 0u);
    if (inside)
      v = activate(VALUE_ACTIVATION, v_in[m * (p.v_stride + p.v_first) + t * p.v_row + h * p.value_dim + j]);
    float beta = activate(BETA_ACTIVATION, beta_in[t * p.beta_row + m * p.beta_first + h]) * p.beta_scale;
    float recalled = 0.0;
    FOR_ROWS(n, i) {
      if (i < KEY_DIM) {
        s[n] *= factor;
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
    y = sum_of_column(y) * p.scale * share;
    if (lane < columns && inside) o[at] = y;
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(own * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
}
