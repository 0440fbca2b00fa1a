// What the two forms of gated linear attention share: push constants, bindings.
#include "mixer_constants.glsl"
const bool HAS_KEYS = (FLAGS & 1u) != 0u, HAS_VALUES = (FLAGS & 2u) != 0u, DECAY_VALUES = (FLAGS & 4u) != 0u,
           STEP_WRITES = (FLAGS & 8u) != 0u, NORMALIZED = (FLAGS & 16u) != 0u, SKIP = (FLAGS & 32u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint tokens;
  uint query_heads, key_heads, value_heads, heads, outputs;
  uint value_dim, tiles;
  float scale, normalizer_epsilon, query_epsilon, key_epsilon;
  DECAY_PUSH
}
p;
#define DECAY_BINDING 3
#define RATE_BINDING 4
#define OFFSET_BINDING 5
#include "decay.glsl"
layout(std430, binding = 0) readonly buffer Q { float q_in[]; };
layout(std430, binding = 1) readonly buffer K { float k_in[]; };
layout(std430, binding = 2) readonly buffer V { float v_in[]; };
layout(std430, binding = 6) readonly buffer Skip { float skip[]; };
layout(std430, binding = 7) buffer S { float state[]; };
layout(std430, binding = 8) readonly buffer Z { float state_sum[]; };
layout(std430, binding = 9) writeonly buffer O { float o[]; };
