#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"

// y[m, t] = act(convolution over the tokens of memory m); a thread runs one channel of one memory through them.
// Constants: 1 taps (0: none), 2 activation.
layout(constant_id = 1) const uint TAPS = 1u;
layout(constant_id = 2) const uint ACTIVATION = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, channels, row, all;  // row: channels of the input, those of one memory or of all
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer W { float taps[]; };
layout(std430, binding = 2) readonly buffer Shares { float shares[]; };
layout(std430, binding = 3) buffer H { float history[]; };
layout(std430, binding = 4) writeonly buffer Y { float y[]; };

void main() {
  uint m = thread_index() / p.channels, c = thread_index() % p.channels;
  if (m >= p.all) return;
  uint first = p.row == p.channels ? c : m * p.channels + c, kept = TAPS - 1u;
  float seen[TAPS];
  for (uint j = 1u; j < TAPS; ++j) seen[j] = history[(m * kept + j - 1u) * p.channels + c];
  for (uint t = 0u; t < p.tokens; ++t) {
    if (shares[t * p.all + m] == 0.0) continue;
    for (uint j = 0u; j < kept; ++j) seen[j] = seen[j + 1u];
    seen[kept] = x[t * p.row + first];
    float sum = 0.0;
    for (uint j = 0u; j < TAPS; ++j) sum += taps[j * p.channels + c] * seen[j];
    y[(m * p.tokens + t) * p.channels + c] = activate(ACTIVATION, sum);
  }
  for (uint j = 1u; j < TAPS; ++j) history[(m * kept + j - 1u) * p.channels + c] = seen[j];
}
