#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// The key (after rope) and value that leave the window when token t comes, side by side for all tokens.
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, key_channels, value_channels, window, sinks;
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
#include "ring.glsl"
#include "window.glsl"
layout(std430, binding = 1) readonly buffer K { float k[]; };
layout(std430, binding = 2) readonly buffer V { float v[]; };
layout(std430, binding = 3) readonly buffer Keys { float keys[]; };
layout(std430, binding = 4) readonly buffer Values { float values[]; };
layout(std430, binding = 5) writeonly buffer LeavingKeys { float leaving_keys[]; };
layout(std430, binding = 6) writeonly buffer LeavingValues { float leaving_values[]; };

void main() {
  uint row = p.key_channels + p.value_channels, t = thread_index() / row, c = thread_index() % row;
  if (t >= p.tokens) return;
  uint position = params.position + t;
  // What nobody reads is still defined.
  bool leaves = position >= p.window + p.sinks;
  uint from = leaves ? position - p.window : 0u;
  bool chunk = leaves && in_chunk(from);
  uint at = chunk ? from - params.position : window_slot(from);
  if (c < p.key_channels) {
    float x = chunk ? k[at * p.key_channels + c] : keys[at * p.key_channels + c];
    leaving_keys[t * p.key_channels + c] = leaves ? x : 0.0;
  } else {
    c -= p.key_channels;
    float x = chunk ? v[at * p.value_channels + c] : values[at * p.value_channels + c];
    leaving_values[t * p.value_channels + c] = leaves ? x : 0.0;
  }
}
