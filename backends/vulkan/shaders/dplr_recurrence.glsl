// What the two forms of the recurrence share: constants from 4 on, push constants, bindings.
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint DECAY_KIND = 0u;
layout(constant_id = 6) const uint DECAY_FLAGS = 0u;
layout(constant_id = 7) const uint RATE_ACTIVATION = 0u;
const bool HAS_REMOVAL = (FLAGS & 1u) != 0u, HAS_FIRST = (FLAGS & 2u) != 0u, REMOVAL_SCALE = (FLAGS & 4u) != 0u,
           RATE_MIX = (FLAGS & 8u) != 0u, BONUS = (FLAGS & 16u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens, heads, value_dim, tiles;
  float scale, removal_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 1
#define RATE_BINDING 8
#define OFFSET_BINDING 9
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer R { float r_in[]; };
layout(std430, binding = 2) readonly buffer K { float k_in[]; };
layout(std430, binding = 3) readonly buffer V { float v_in[]; };
layout(std430, binding = 4) readonly buffer A { float a_in[]; };
layout(std430, binding = 5) readonly buffer Removal { float removal_in[]; };
layout(std430, binding = 6) readonly buffer First { float first_in[]; };
layout(std430, binding = 7) readonly buffer Mix { float mix_in[]; };
layout(std430, binding = 10) readonly buffer RemovalScale { float removal_scale[]; };
layout(std430, binding = 11) readonly buffer RateMix { float rate_mix[]; };
layout(std430, binding = 12) readonly buffer BonusScale { float bonus_scale[]; };
layout(std430, binding = 13) buffer S { float state[]; };
layout(std430, binding = 14) writeonly buffer O { float o[]; };
layout(std430, binding = 15) writeonly buffer B { float bonus[]; };
