#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// Keys, values and the sum into the states, once everything has read the old ones.
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, key_channels, value_channels, window, sinks;
  uint sums;
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
#include "ring.glsl"
#include "window.glsl"
layout(std430, binding = 1) readonly buffer K { float k[]; };
layout(std430, binding = 2) readonly buffer V { float v[]; };
layout(std430, binding = 3) readonly buffer NewZ { float new_sum[]; };
layout(std430, binding = 4) writeonly buffer Keys { float keys[]; };
layout(std430, binding = 5) writeonly buffer Values { float values[]; };
layout(std430, binding = 6) writeonly buffer Z { float state_sum[]; };

void main() {
  uint row = p.key_channels + p.value_channels, n = thread_index();
  if (n >= p.tokens * row) {
    n -= p.tokens * row;
    if (n < p.sums) state_sum[n] = new_sum[n];
    return;
  }
  uint t = n / row, c = n % row, position = params.position + t;
  // A later token of the chunk may have the same slot.
  if (position >= p.sinks && t + p.window < p.tokens) return;
  uint slot = window_slot(position);
  if (c < p.key_channels)
    keys[slot * p.key_channels + c] = k[t * p.key_channels + c];
  else
    values[slot * p.value_channels + c - p.key_channels] = v[t * p.value_channels + c - p.key_channels];
}
