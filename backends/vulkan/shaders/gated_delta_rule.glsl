// What the two forms of the gated delta rule share: constants from 12 on, push constants, bindings.
#include "mixer_constants.glsl"
layout(constant_id = 12) const uint BETA_ACTIVATION = 0u;
const bool HAS_BETA = (FLAGS & 1u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens, key_heads, heads, value_dim, tiles;
  float scale, beta_scale, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 4
#define RATE_BINDING 5
#define OFFSET_BINDING 6
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer Q { float q_in[]; };
layout(std430, binding = 1) readonly buffer K { float k_in[]; };
layout(std430, binding = 2) readonly buffer V { float v_in[]; };
layout(std430, binding = 3) readonly buffer Beta { float beta_in[]; };
layout(std430, binding = 7) buffer S { float state[]; };
layout(std430, binding = 8) writeonly buffer O { float o[]; };
