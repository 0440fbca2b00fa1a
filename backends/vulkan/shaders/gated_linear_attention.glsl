// What the two forms of gated linear attention share: constants from 4 on, push constants, bindings.
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint DECAY_KIND = 0u;
layout(constant_id = 6) const uint DECAY_FLAGS = 0u;
layout(constant_id = 7) const uint QUERY_ACTIVATION = 0u;
layout(constant_id = 8) const uint QUERY_NORM = 0u;
layout(constant_id = 9) const uint KEY_ACTIVATION = 0u;
layout(constant_id = 10) const uint KEY_NORM = 0u;
layout(constant_id = 11) const uint VALUE_ACTIVATION = 0u;
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
