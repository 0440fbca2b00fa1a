#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"

// Constants: 1 dtype of the cache.
layout(constant_id = 1) const uint CACHE_DTYPE = 0u;
#include "ring.glsl"
#include "cache.glsl"
layout(push_constant) uniform Push {
  uint groups;
  uint tokens, key_channels, value_channels;
  uint sinks, capacity;
  uint heads;  // whose keys are split into parts, of which none is done yet
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
layout(std430, binding = 1) readonly buffer K { float k[]; };
layout(std430, binding = 2) readonly buffer V { float v[]; };
layout(std430, binding = 3) buffer Keys { uint keys[]; };
layout(std430, binding = 4) buffer Values { uint values[]; };
layout(std430, binding = 5) writeonly buffer Parts { uint parts[]; };  // softmax_attention.comp

// Two rows may share a word, and different threads write its halves.
#define PUT_HALF(words, at, half)                                       \
  {                                                                     \
    atomicAnd(words[(at) / 2u], 0xFFFF0000u >> ((at)&1u) * 16u);        \
    atomicOr(words[(at) / 2u], (half) << ((at)&1u) * 16u);              \
  }

// Elements [first, first + count) of a row: one, or a group of q8.
#define STORE(words, x, from, to)                                                              \
  if (CACHE_DTYPE == DTYPE_F32) {                                                              \
    words[to] = floatBitsToUint(x[from]);                                                      \
  } else if (CACHE_DTYPE == DTYPE_F16) {                                                       \
    PUT_HALF(words, to, float_to_half(x[from]))                                                \
  } else {                                                                                     \
    float most = 0.0;                                                                          \
    bool finite = true;                                                                        \
    for (uint i = 0u; i < 32u; ++i) {                                                          \
      float a = abs(x[from + i]);                                                              \
      finite = finite && !isnan(a) && !isinf(a);                                               \
      most = max(most, a);                                                                     \
    }                                                                                          \
    uint scale = finite ? float_to_half(most / 127.0) : 0x7E00u;                               \
    float d = half_to_float(scale), inverse = d > 0.0 ? 1.0 / d : 0.0;                         \
    uint at = CACHE_GROUP(to);                                                                 \
    PUT_HALF(words, at, scale)                                                                 \
    for (uint i = 0u; i < 16u; ++i) {                                                          \
      int a = 1, b = 1;                                                                        \
      if (finite) {                                                                            \
        a = int(clamp(roundEven(x[from + 2u * i] * inverse), -127.0, 127.0));                  \
        b = int(clamp(roundEven(x[from + 2u * i + 1u] * inverse), -127.0, 127.0));             \
      }                                                                                        \
      PUT_HALF(words, at + SCALE_HALVES(DTYPE_Q8) + i, uint(a) & 0xFFu | (uint(b) & 0xFFu) << 8) \
    }                                                                                          \
  }

void main() {
  if (thread_index() < p.heads) parts[thread_index()] = 0u;
  uint step = IN_BLOCKS(CACHE_DTYPE) ? GROUP_INPUTS : 1u;
  uint row = (p.key_channels + p.value_channels) / step;
  uint t = thread_index() / row, c = thread_index() % row * step;
  if (t >= p.tokens) return;
  uint slot = ring_slot(params.position + t, p.sinks, p.capacity);
  if (c < p.key_channels) {
    uint from = t * p.key_channels + c, to = slot * p.key_channels + c;
    STORE(keys, k, from, to)
  } else {
    c -= p.key_channels;
    uint from = t * p.value_channels + c, to = slot * p.value_channels + c;
    STORE(values, v, from, to)
  }
}
