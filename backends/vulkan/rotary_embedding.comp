#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// Constants: 1 pairs are (2i, 2i + 1) instead of (i, i + half).
layout(constant_id = 1) const uint INTERLEAVED = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, channels, head_dim, half_dim;  // half_dim: pairs that turn
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer Table { vec2 angles[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  uint at = thread_index();
  if (at >= p.count) return;
  uint token = at / p.channels, c = at % p.channels % p.head_dim;
  float v = x[at];
  if (c < 2u * p.half_dim) {
    bool second = INTERLEAVED != 0u ? (c & 1u) != 0u : c >= p.half_dim;
    uint pair = INTERLEAVED != 0u ? c / 2u : second ? c - p.half_dim : c;
    uint step = INTERLEAVED != 0u ? 1u : p.half_dim;
    float other = x[second ? at - step : at + step];
    vec2 angle = angles[token * p.half_dim + pair];
    v = second ? v * angle.x + other * angle.y : v * angle.x - other * angle.y;
  }
  y[at] = v;
}
