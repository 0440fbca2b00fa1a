#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "reduce.glsl"

// One group for each query of each head; a thread scores a key of a block, then adds up channels of values over its
// slice of the block's keys. A single query's keys may be split over PARTS groups, `span` each: those at work leave
// their sums in memory, and the last to be done adds them up. Constants: 1 dtype of the cache, 2 flags, 3 activation of
// the gate, 4 head_dim, 5 channels of a thread, 6 threads of a slice, 7 parts.
layout(constant_id = 1) const uint CACHE_DTYPE = 0u;
layout(constant_id = 2) const uint FLAGS = 0u;
layout(constant_id = 3) const uint ACTIVATION = 0u;
layout(constant_id = 4) const uint HEAD_DIM = 1u;
layout(constant_id = 5) const uint CHANNELS = 1u;
layout(constant_id = 6) const uint SLICE = 1u;
layout(constant_id = 7) const uint PARTS = 1u;
const bool CAUSAL = (FLAGS & 1u) != 0u, GATE = (FLAGS & 2u) != 0u, TURN = (FLAGS & 4u) != 0u,
           INTERLEAVED = (FLAGS & 8u) != 0u, BIAS = (FLAGS & 16u) != 0u, MASK = (FLAGS & 32u) != 0u;
#include "ring.glsl"
#include "cache.glsl"
layout(push_constant) uniform Push {
  uint groups;
  uint heads, kv_heads, value_dim;
  uint key_rows;                   // of the keys where not causal
  uint sinks, window, capacity;
  uint half_dim;                   // pairs that turn
  float scale, softcap;
  uint queries;
  uint span;
}
p;
#define PARAMS_BINDING 0
#include "params.glsl"
layout(std430, binding = 1) readonly buffer Q { float queries[]; };
layout(std430, binding = 2) readonly buffer Keys { uint keys[]; };
layout(std430, binding = 3) readonly buffer Values { uint values[]; };
layout(std430, binding = 4) readonly buffer G { float gate[]; };
layout(std430, binding = 5) readonly buffer Table { vec2 angles[]; };
layout(std430, binding = 6) readonly buffer Bias { float bias[]; };
layout(std430, binding = 7) readonly buffer Buckets { float buckets[]; };  // of key - query, from the least
layout(std430, binding = 8) writeonly buffer O { float o[]; };
layout(std430, binding = 9) readonly buffer Mask { float mask[]; };  // by key, 0 where it is not seen
// Of each head how many parts are done; then floats, of each part the sums of its values, its largest score, the sum of
// its weights.
layout(std430, binding = 10) coherent buffer Parts { uint parts[]; };

shared bool last;
shared float q[HEAD_DIM], turned[HEAD_DIM];
shared float weights[THREADS];
#include "online_softmax.glsl"
shared uint slots[THREADS];

void load_query(uint t, uint base) {
  uint lane = gl_LocalInvocationID.x;
  for (uint i = lane; i < HEAD_DIM; i += THREADS) {
    float v = queries[base + i];
    q[i] = v;
    if (!TURN) continue;
    if (i < 2u * p.half_dim) {
      bool second = INTERLEAVED ? (i & 1u) != 0u : i >= p.half_dim;
      uint pair = INTERLEAVED ? i / 2u : second ? i - p.half_dim : i;
      uint step = INTERLEAVED ? 1u : p.half_dim;
      float other = queries[second ? base + i - step : base + i + step];
      vec2 angle = angles[t * p.half_dim + pair];
      v = second ? v * angle.x + other * angle.y : v * angle.x - other * angle.y;
    }
    turned[i] = v;
  }
  barrier();
}

// Channel c of a query of a head.
void put(uint row, uint c, float y) {
  uint at = row * p.value_dim + c;
  o[at] = GATE ? y * activate(ACTIVATION, gate[at]) : y;
}

void main() {
  if (group_index() >= p.groups) return;
  uint lane = gl_LocalInvocationID.x, part = group_index() % PARTS, row = group_index() / PARTS;
  uint t = row / p.heads, h = row % p.heads, kv = h / (p.heads / p.kv_heads);
  uint position = params.position + t;
  // The keys seen: `front` of the sinks, then all from `first` on.
  uint front = 0u, first = 0u, total = p.key_rows;
  if (CAUSAL) {
    front = min(p.sinks, position + 1u);
    first = max(p.sinks, position + 1u > p.window ? position + 1u - p.window : 0u);
    total = front + (first <= position ? position + 1u - first : 0u);
  }
  uint begin = 0u, end = total, working = 1u;
  if (PARTS > 1u) {
    begin = part * p.span;
    if (begin >= total) return;
    end = min(total, begin + p.span);
    working = (total + p.span - 1u) / p.span;
  }
  load_query(t, row * HEAD_DIM);
  float acc[CHANNELS];
  for (uint i = 0u; i < CHANNELS; ++i) acc[i] = 0.0;
  float most = -kInfinity, sum = 0.0;
  for (uint start = begin; start < end; start += THREADS) {
    uint n = start + lane;
    float score = -kInfinity;
    if (n < end) {
      uint j = n < front ? n : first + n - front;
      uint slot = CAUSAL ? ring_slot(j, p.sinks, p.capacity) : j;
      slots[lane] = slot;
      uint base = (slot * p.kv_heads + kv) * HEAD_DIM;
      score = 0.0;
      if (TURN && j < p.sinks) {
        for (uint i = 0u; i < HEAD_DIM; ++i) score += turned[i] * CACHE_VALUE(keys, base + i);
      } else {
        for (uint i = 0u; i < HEAD_DIM; ++i) score += q[i] * CACHE_VALUE(keys, base + i);
      }
      score *= p.scale;
      if (p.softcap > 0.0) score = p.softcap * tanh_(score / p.softcap);
      if (MASK && mask[j] == 0.0) score = -1e30;  // finite: a block without a key that is seen has a maximum
      if (BIAS) score += bias[uint(buckets[j + p.queries - 1u - t]) * p.heads + h];
    }
    float factor = take_in_block(score, n < end, start == begin, most, sum);
    uint count = min(THREADS, end - start);
    for (uint i = 0u; i < CHANNELS; ++i) {
      uint c = lane % SLICE + i * SLICE;
      if (c >= p.value_dim) break;
      float y = 0.0;
      for (uint key = lane / SLICE; key < count; key += THREADS / SLICE)
        y += weights[key] * CACHE_VALUE(values, (slots[key] * p.kv_heads + kv) * p.value_dim + c);
      acc[i] = acc[i] * factor + y;
    }
    barrier();
  }
  uint size = p.value_dim + 2u, of_head = p.heads + row * PARTS * size, of_part = of_head + part * size;
  for (uint i = 0u; i < CHANNELS; ++i) {
    weights[lane] = acc[i];
    barrier();
    float y = 0.0;
    if (lane < SLICE)
      for (uint n = lane; n < THREADS; n += SLICE) y += weights[n];
    barrier();
    uint c = lane + i * SLICE;
    if (lane >= SLICE || c >= p.value_dim) continue;
    if (working == 1u)
      put(row, c, y / sum);
    else
      parts[of_part + c] = floatBitsToUint(y);
  }
  if (PARTS == 1u || working == 1u) return;
  if (lane == 0u) {
    parts[of_part + p.value_dim] = floatBitsToUint(most);
    parts[of_part + p.value_dim + 1u] = floatBitsToUint(sum);
  }
  memoryBarrierBuffer();
  barrier();
  if (lane == 0u) last = atomicAdd(parts[row], 1u) + 1u == working;
  barrier();
  if (!last) return;
  memoryBarrierBuffer();
  most = -kInfinity;
  for (uint n = 0u; n < working; ++n) {
    float its = uintBitsToFloat(parts[of_head + n * size + p.value_dim]);
    if (its > most || isnan(its)) most = its;
  }
  for (uint c = lane; c < p.value_dim; c += THREADS) {
    float y = 0.0;
    sum = 0.0;
    for (uint n = 0u; n < working; ++n) {
      uint at = of_head + n * size;
      float factor = exp_(uintBitsToFloat(parts[at + p.value_dim]) - most);
      y += factor * uintBitsToFloat(parts[at + c]);
      sum += factor * uintBitsToFloat(parts[at + p.value_dim + 1u]);
    }
    put(row, c, y / sum);
  }
}
