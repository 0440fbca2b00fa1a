#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// A thread runs one channel through its tokens. Constants: 1 taps, 2 activation, 3 there is a bias.
layout(constant_id = 1) const uint TAPS = 2u;
layout(constant_id = 2) const uint ACTIVATION = 0u;
layout(constant_id = 3) const uint BIAS = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, channels;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer W { float taps[]; };
layout(std430, binding = 2) readonly buffer B { float bias[]; };
layout(std430, binding = 3) buffer H { float history[]; };
layout(std430, binding = 4) writeonly buffer Y { float y[]; };

void main() {
  uint c = thread_index();
  if (c >= p.channels) return;
  float seen[TAPS], w[TAPS];
  for (uint j = 0u; j < TAPS; ++j) {
    w[j] = taps[j * p.channels + c];
    // Room for the token at the end; the first one drops out when it comes.
    seen[j] = j == 0u ? 0.0 : history[(j - 1u) * p.channels + c];
  }
  for (uint t = 0u; t < p.tokens; ++t) {
    for (uint j = 0u; j + 1u < TAPS; ++j) seen[j] = seen[j + 1u];
    seen[TAPS - 1u] = x[t * p.channels + c];
    float sum = BIAS != 0u ? bias[c] : 0.0;
    for (uint j = 0u; j < TAPS; ++j) sum += w[j] * seen[j];
    y[t * p.channels + c] = activate(ACTIVATION, sum);
  }
  for (uint j = 1u; j < TAPS; ++j) history[(j - 1u) * p.channels + c] = seen[j];
}
