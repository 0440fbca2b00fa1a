// What the two forms of norm share. Constants: 1 kind as in model.fbs, 2 activation of the gate, 3 flags,
// 4 activation.
layout(constant_id = 1) const uint KIND = 0u;
layout(constant_id = 2) const uint GATE_ACTIVATION = 0u;
layout(constant_id = 3) const uint FLAGS = 0u;
layout(constant_id = 4) const uint ACTIVATION = 0u;
const bool WEIGHT = (FLAGS & 1u) != 0u, BIAS = (FLAGS & 2u) != 0u, GATE = (FLAGS & 4u) != 0u,
           GATE_FIRST = (FLAGS & 8u) != 0u, SCALE = (FLAGS & 16u) != 0u, SHIFT = (FLAGS & 32u) != 0u,
           RESIDUAL = (FLAGS & 64u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint size;                        // channels of a group
  uint per_row;                     // groups of a row
  uint weight_groups, bias_groups;  // groups after which they repeat
  float epsilon, weight_offset;
  uint scale_at, shift_at;          // in the modulation
  uint rows;
}
p;

layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer G { float gate[]; };
layout(std430, binding = 2) readonly buffer W { float weight[]; };
layout(std430, binding = 3) readonly buffer B { float bias[]; };
layout(std430, binding = 4) readonly buffer M { float modulation[]; };
layout(std430, binding = 5) readonly buffer R { float residual[]; };
layout(std430, binding = 6) writeonly buffer Y { float y[]; };

float value(uint at) {
  float v = x[at];
  if (GATE && GATE_FIRST) v *= activate(GATE_ACTIVATION, gate[at]);
  return v;
}

float largest(float most, float v) {  // NaN wins
  return abs(v) > most || isnan(v) ? abs(v) : most;
}

// A power of two that brings numbers up to `most` near 1, so that their squares neither overflow nor vanish.
float unit_of(float most) {
  uint exponent = clamp(floatBitsToUint(most) >> 23 & 255u, 1u, 253u);
  return most > 0.0 && !isinf(most) ? uintBitsToFloat((254u - exponent) << 23) : 1.0;
}

// What follows normalisation and gate, for channel `c` of element `at`.
void finish(uint at, uint c, float v) {
  if (SCALE) v *= 1.0 + modulation[p.scale_at + c];
  if (SHIFT) v += modulation[p.shift_at + c];
  v = activate(ACTIVATION, v);
  if (RESIDUAL) v += residual[at];
  y[at] = v;
}
