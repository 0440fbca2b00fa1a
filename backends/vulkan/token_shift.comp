#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// A thread runs one channel through its tokens, for up to six outputs at once (what RWKV-7 has).
// Constants: 1 outputs, 2 whether this is the last dispatch of the op, which keeps the last token.
layout(constant_id = 1) const uint OUTPUTS = 1u;
layout(constant_id = 2) const uint LAST = 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, channels;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) buffer H { float history[]; };
#define OUTPUT(n, a, b)                                                   \
  layout(std430, binding = a) readonly buffer M##n { float mu##n[]; };    \
  layout(std430, binding = b) writeonly buffer Y##n { float y##n[]; };
OUTPUT(0, 2, 3)
OUTPUT(1, 4, 5)
OUTPUT(2, 6, 7)
OUTPUT(3, 8, 9)
OUTPUT(4, 10, 11)
OUTPUT(5, 12, 13)

void main() {
  uint c = thread_index();
  if (c >= p.channels) return;
  float before = history[c];
  for (uint t = 0u; t < p.tokens; ++t) {
    uint at = t * p.channels + c;
    float now = x[at], change = before - now;
    y0[at] = now + change * mu0[c];
    if (OUTPUTS > 1u) y1[at] = now + change * mu1[c];
    if (OUTPUTS > 2u) y2[at] = now + change * mu2[c];
    if (OUTPUTS > 3u) y3[at] = now + change * mu3[c];
    if (OUTPUTS > 4u) y4[at] = now + change * mu4[c];
    if (OUTPUTS > 5u) y5[at] = now + change * mu5[c];
    before = now;
  }
  if (LAST != 0u) history[c] = before;
}
