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
layout(std430, binding = 8) buffer Z { float state_sum[]; };
layout(std430, binding = 9) writeonly buffer O { float o[]; };
layout(std430, binding = 10) writeonly buffer NewZ { float new_sum[]; };

// z and what it has become. Where a head has several tiles, some may not have read the old one yet: the new one goes by
// a detour (gated_linear_attention_sum.comp).
#define LOAD_SUM(z, h) \
  for (uint i_ = gl_LocalInvocationID.x; i_ < KEY_DIM; i_ += THREADS) z[i_] = state_sum[(h) * KEY_DIM + i_];
#define STORE_SUM(z, h)                                                           \
  for (uint i_ = gl_LocalInvocationID.x; i_ < KEY_DIM; i_ += THREADS) {           \
    if (p.tiles == 1u) state_sum[(h) * KEY_DIM + i_] = z[i_];                     \
    else if (group_index() % p.tiles == 0u) new_sum[(h) * KEY_DIM + i_] = z[i_]; \
  }
