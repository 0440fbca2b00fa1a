#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "reduce.glsl"

// A group chooses the experts of one token and their weights.
// Constants: 1 experts, 2 scores (0 softmax, 1 sigmoid), 3 flags.
layout(constant_id = 1) const uint EXPERTS = 1u;
layout(constant_id = 2) const uint SCORES = 0u;
layout(constant_id = 3) const uint FLAGS = 0u;
const bool BIAS = (FLAGS & 1u) != 0u, RENORMALIZE = (FLAGS & 2u) != 0u, SHARED_GATE = (FLAGS & 4u) != 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint top_k, channels;
  float scale, epsilon;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer Logits { float logits[]; };
layout(std430, binding = 2) readonly buffer Bias { float bias[]; };
layout(std430, binding = 3) readonly buffer Gate { float shared_gate[]; };
layout(std430, binding = 4) writeonly buffer Chosen { uint chosen[]; };     // [tokens, top_k]
layout(std430, binding = 5) buffer Weights { float weights[]; };            // [tokens, top_k + 1]

shared float score[EXPERTS], rank[EXPERTS];
shared uint index[THREADS];

void main() {
  if (group_index() >= p.groups) return;
  uint t = group_index(), lane = gl_LocalInvocationID.x;
  float most = -kInfinity, sum = 0.0;
  for (uint e = lane; e < EXPERTS; e += THREADS) most = max(most, logits[t * EXPERTS + e]);
  most = max_of_group(most);
  for (uint e = lane; e < EXPERTS; e += THREADS) {
    float l = logits[t * EXPERTS + e];
    score[e] = SCORES == 1u ? sigmoid(l) : exp_(l - most);
    sum += score[e];
  }
  sum = sum_of_group(sum);
  for (uint e = lane; e < EXPERTS; e += THREADS) {
    if (SCORES == 0u) score[e] /= sum;
    rank[e] = BIAS ? score[e] + bias[e] : score[e];
  }
  barrier();
  float total = p.epsilon;
  for (uint i = 0u; i < p.top_k; ++i) {
    // The best rank that is left; of equal ones the first expert.
    float best = -kInfinity;
    uint at = EXPERTS;
    for (uint e = lane; e < EXPERTS; e += THREADS)
      if (rank[e] > best) {
        best = rank[e];
        at = e;
      }
    barrier();
    reduced[lane] = best;
    index[lane] = at;
    barrier();
    for (uint step = THREADS / 2u; step > 0u; step /= 2u) {
      if (lane < step && (reduced[lane + step] > reduced[lane] ||
                          (reduced[lane + step] == reduced[lane] && index[lane + step] < index[lane]))) {
        reduced[lane] = reduced[lane + step];
        index[lane] = index[lane + step];
      }
      barrier();
    }
    // Scores that are not numbers choose somebody, whose output is then none either.
    uint expert = min(index[0], EXPERTS - 1u);
    total += score[expert];
    barrier();
    if (lane == 0u) {
      chosen[t * p.top_k + i] = expert;
      weights[t * (p.top_k + 1u) + i] = score[expert];
      rank[expert] = -kInfinity;
    }
    barrier();
  }
  float factor = RENORMALIZE ? p.scale / total : p.scale;
  if (lane == 0u)
    for (uint i = 0u; i < p.top_k; ++i) weights[t * (p.top_k + 1u) + i] *= factor;
  float open = 0.0;
  if (SHARED_GATE)
    for (uint i = lane; i < p.channels; i += THREADS) open += x[t * p.channels + i] * shared_gate[i];
  open = SHARED_GATE ? sigmoid(sum_of_group(open)) : 1.0;
  if (lane == 0u) weights[t * (p.top_k + 1u) + p.top_k] = open;
}
