#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "vectors.glsl"

// An operation of runtime/engine/vectors.h. Not done once something watched was not finite.
const uint TERMS = 5u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, terms, gain;
  float constant, limit, slope, offset;
  uint to, gain_of;
  uint from[TERMS];
  float factor[TERMS];
}
p;

void main() {
  uint i = thread_index();
  if (i >= p.count || vectors[NOT_FINITE] != 0u) return;
  float x = p.constant;
  for (uint k = 0u; k < p.terms; ++k) {
    float term = p.factor[k] * element(p.from[k], i);
    if (p.gain != 0u && k + 1u == p.terms) {
      float g = element(p.gain_of, i);
      term *= p.gain == 1u ? exp_(p.slope * g + p.offset) : sqrt(g);
    }
    x += term;
  }
  x = x > p.limit ? p.limit : x < -p.limit ? -p.limit : x;
  if ((p.to & OF_VALUE) != 0u)
    value[(p.to & ~OF_VALUE) + i] = floatBitsToUint(x);
  else
    vectors[p.to + i] = floatBitsToUint(x);
}
