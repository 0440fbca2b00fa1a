#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// The `count` largest of a slice of 1024 elements, in order: the larger value first, of equal ones the lower
// id. Constant 0 is 128.
layout(push_constant) uniform Push {
  uint groups;
  uint n, count;
  uint lists;  // 1: the source has ids and values, as an earlier step left them; 0: it is a row of values
}
p;
layout(std430, binding = 0) readonly buffer A { uint source[]; };
layout(std430, binding = 1) writeonly buffer B { uint largest[]; };

const uint SLICE = 1024u, INFINITY = 0x7F800000u;
shared float value[SLICE];
shared uint id[SLICE];

bool before(uint a, uint b) { return value[a] > value[b] || (value[a] == value[b] && id[a] < id[b]); }
void swap(uint a, uint b) {
  float v = value[a];
  uint i = id[a];
  value[a] = value[b];
  id[a] = id[b];
  value[b] = v;
  id[b] = i;
}

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x;
  for (uint i = lane; i < SLICE; i += THREADS) {
    uint at = group_index() * SLICE + i, bits = INFINITY | 0x80000000u, own = 0xFFFFFFFFu;
    if (at < p.n && p.lists != 0u) {
      own = source[2u * at];
      bits = source[2u * at + 1u];
    } else if (at < p.n) {
      own = at;
      bits = source[at];
      if ((bits & INFINITY) == INFINITY)
        bits = INFINITY;  // not finite, NaN included: said by the first of the list
    }
    value[i] = uintBitsToFloat(bits);
    id[i] = own;
  }
  barrier();
  if (p.count == 1u) {
    for (uint step = SLICE / 2u; step > 0u; step /= 2u) {
      for (uint i = lane; i < step; i += THREADS)
        if (before(i + step, i)) swap(i, i + step);
      barrier();
    }
  } else {  // bitonic
    for (uint size = 2u; size <= SLICE; size *= 2u)
      for (uint step = size / 2u; step > 0u; step /= 2u) {
        for (uint i = lane; i < SLICE / 2u; i += THREADS) {
          uint a = i / step * step * 2u + i % step, b = a + step;
          if (before(b, a) == ((a & size) == 0u)) swap(a, b);
        }
        barrier();
      }
  }
  for (uint i = lane; i < p.count; i += THREADS) {
    uint at = 2u * (group_index() * p.count + i);
    largest[at] = id[i];
    largest[at + 1u] = floatBitsToUint(value[i]);
  }
}
