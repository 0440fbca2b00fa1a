#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"
#include "state.glsl"

// The state's part, and both together: one group for each head of the state and tile of value channels, all tokens
// of the chunk in turn. KEY_DIM is the number of features.
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, heads, kv_heads, state_heads, value_dim, tiles, window, sinks;
  float epsilon;
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
layout(std430, binding = 1) readonly buffer KeyFeatures { float key_features[]; };
layout(std430, binding = 2) readonly buffer Factors { float factors[]; };
layout(std430, binding = 3) readonly buffer LeavingValues { float leaving_values[]; };
layout(std430, binding = 4) readonly buffer QueryFeatures { float query_features[]; };
layout(std430, binding = 5) readonly buffer Above { float above[]; };
layout(std430, binding = 6) readonly buffer Below { vec2 below[]; };
layout(std430, binding = 7) buffer S { float state[]; };
layout(std430, binding = 8) readonly buffer Z { float state_sum[]; };
layout(std430, binding = 9) writeonly buffer NewZ { float new_sum[]; };
layout(std430, binding = 10) writeonly buffer O { float o[]; };

shared float z[KEY_DIM];

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, columns = THREADS / SLICES;
  uint h = group_index() / p.tiles, tile = group_index() % p.tiles, j = tile * columns + lane % columns;
  uint kv = h / (p.state_heads / p.kv_heads), share = p.heads / p.state_heads;
  bool inside = j < p.value_dim;
  float s[ROWS];
  FOR_ROWS(n, i) s[n] = inside && i < KEY_DIM ? state[(h * KEY_DIM + i) * p.value_dim + j] : 0.0;
  for (uint i = lane; i < KEY_DIM; i += THREADS) z[i] = state_sum[h * KEY_DIM + i];
  for (uint t = 0u; t < p.tokens; ++t) {
    if (params.position + t >= p.window + p.sinks) {
      uint at = (t * p.state_heads + h) * KEY_DIM;
      float v = inside ? leaving_values[(t * p.kv_heads + kv) * p.value_dim + j] : 0.0;
      FOR_ROWS(n, i) {
        if (i < KEY_DIM) s[n] = factors[at + i] * s[n] + key_features[at + i] * v;
      }
      for (uint i = lane; i < KEY_DIM; i += THREADS) z[i] = factors[at + i] * z[i] + key_features[at + i];
    }
    for (uint head = h * share; head < (h + 1u) * share; ++head) {
      uint row = t * p.heads + head, at = row * KEY_DIM;
      float y = 0.0, part = 0.0;
      FOR_ROWS(n, i) {
        if (i < KEY_DIM) y += query_features[at + i] * s[n];
      }
      for (uint i = lane; i < KEY_DIM; i += THREADS) part += query_features[at + i] * z[i];
      y = sum_of_column(y);
      part = sum_of_group(part);
      vec2 b = below[row];
      if (lane < columns && inside)
        o[row * p.value_dim + j] = (above[row * p.value_dim + j] + b.y * y) / (b.x + p.epsilon + b.y * part);
    }
  }
  FOR_ROWS(n, i) {
    if (inside && i < KEY_DIM) state[(h * KEY_DIM + i) * p.value_dim + j] = s[n];
  }
  // The sum goes by a detour: other tiles may not have read the old one yet.
  if (tile == 0u)
    for (uint i = lane; i < KEY_DIM; i += THREADS) new_sum[h * KEY_DIM + i] = z[i];
}
