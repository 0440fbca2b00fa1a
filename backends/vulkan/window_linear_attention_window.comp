#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"

// The exact part: a group for each query of each head. Writes a sum_V e^(s - m) v, a sum_V e^(s - m) and b.
// Constants: 1 head_dim, 2 channels of a thread, 3 flags.
layout(constant_id = 1) const uint HEAD_DIM = 1u;
layout(constant_id = 2) const uint CHANNELS = 1u;
layout(constant_id = 3) const uint FLAGS = 0u;
const bool LOG_BIAS = (FLAGS & 1u) != 0u, LOG_GAIN = (FLAGS & 2u) != 0u, WINDOW_FACTOR = (FLAGS & 4u) != 0u,
           LINEAR_FACTOR = (FLAGS & 8u) != 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint heads, kv_heads, value_dim, window, sinks;
  float scale;
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
#include "ring.glsl"
#include "window.glsl"
layout(std430, binding = 1) readonly buffer Q { float q_in[]; };      // after rope
layout(std430, binding = 2) readonly buffer RawQ { float raw_q[]; };  // before it
layout(std430, binding = 3) readonly buffer K { float k[]; };
layout(std430, binding = 4) readonly buffer V { float v[]; };
layout(std430, binding = 5) readonly buffer Keys { float keys[]; };
layout(std430, binding = 6) readonly buffer Values { float values[]; };
layout(std430, binding = 7) readonly buffer LogBias { float log_bias[]; };
layout(std430, binding = 8) readonly buffer LogGain { float log_gain[]; };
layout(std430, binding = 9) readonly buffer WindowFactor { float window_factor[]; };
layout(std430, binding = 10) readonly buffer LinearFactor { float linear_factor[]; };
layout(std430, binding = 11) writeonly buffer Above { float above[]; };  // [tokens, heads, value_dim]
layout(std430, binding = 12) writeonly buffer Below { vec2 below[]; };   // [tokens, heads]

shared float q[HEAD_DIM];
shared float weights[THREADS];
#include "online_softmax.glsl"
shared uint places[THREADS];  // 2 * row + whether it is in the chunk

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x;
  uint t = group_index() / p.heads, h = group_index() % p.heads, kv = h / (p.heads / p.kv_heads);
  uint base = group_index() * HEAD_DIM;
  float gain = 0.0;
  for (uint i = lane; i < HEAD_DIM; i += THREADS) {
    q[i] = q_in[base + i];
    if (LOG_GAIN) gain += log_gain[h * HEAD_DIM + i] * raw_q[base + i];
  }
  barrier();
  if (LOG_GAIN) gain = sum_of_group(gain);
  uint position = params.position + t;
  uint front = min(p.sinks, position + 1u);
  uint first = max(p.sinks, position + 1u > p.window ? position + 1u - p.window : 0u);
  uint total = front + (first <= position ? position + 1u - first : 0u);
  float acc[CHANNELS];
  for (uint i = 0u; i < CHANNELS; ++i) acc[i] = 0.0;
  float most = -kInfinity, sum = 0.0;
  for (uint start = 0u; start < total; start += THREADS) {
    uint n = start + lane;
    float score = -kInfinity;
    if (n < total) {
      uint j = n < front ? n : first + n - front;
      bool chunk = in_chunk(j);
      uint row = chunk ? j - params.position : window_slot(j);
      places[lane] = row * 2u + (chunk ? 1u : 0u);
      uint at = (row * p.kv_heads + kv) * HEAD_DIM;
      score = 0.0;
      for (uint i = 0u; i < HEAD_DIM; ++i) score += q[i] * (chunk ? k[at + i] : keys[at + i]);
      score *= p.scale;
    }
    float factor = take_in_block(score, n < total, start == 0u, most, sum);
    uint count = min(THREADS, total - start);
    for (uint i = 0u; i < CHANNELS; ++i) {
      uint c = lane + i * THREADS;
      if (c >= p.value_dim) break;
      float y = 0.0;
      for (uint n_ = 0u; n_ < count; ++n_) {
        uint at = (places[n_] / 2u * p.kv_heads + kv) * p.value_dim + c;
        y += weights[n_] * ((places[n_] & 1u) != 0u ? v[at] : values[at]);
      }
      acc[i] = acc[i] * factor + y;
    }
    barrier();
  }
  float near = WINDOW_FACTOR ? window_factor[h] : 1.0, far = LINEAR_FACTOR ? linear_factor[h] : 1.0;
  if (LOG_BIAS) {  // the state's share takes part in the maximum, but not in the window's sum
    float w = log_bias[h] + gain, highest = most + 60.0;
    w = w > highest ? highest : w;  // NaN passes
    float top = w > most ? w : most;
    near *= exp_(most - top);
    far *= exp_(w - top);
  }
  for (uint i = 0u; i < CHANNELS; ++i) {
    uint c = lane + i * THREADS;
    if (c >= p.value_dim) break;
    above[group_index() * p.value_dim + c] = near * acc[i];
  }
  if (lane == 0u) below[group_index()] = vec2(near * sum, far);
}
