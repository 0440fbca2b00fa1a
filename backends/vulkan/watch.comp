#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "vectors.glsl"

// Says whether an element is not finite.
layout(push_constant) uniform Push {
  uint groups;
  uint count, from;
}
p;

void main() {
  uint i = thread_index();
  if (i < p.count && not_finite(bits_of(p.from, i))) atomicOr(vectors[NOT_FINITE], 1u);
}
