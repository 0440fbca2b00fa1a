// y = x W^T for 16 rows of W (a panel) and a tile of tokens, shared by linear and logits. A thread owns one row
// and every SLICES-th group of 32 inputs; slices are added in a fixed order.
// Constants: 1 dtype of W_0, 2 of W_1, 3 activation, 4 flags, 5 tokens of a tile.
layout(constant_id = 1) const uint DTYPE0 = 0u;
layout(constant_id = 2) const uint DTYPE1 = 0u;
layout(constant_id = 3) const uint ACTIVATION = 0u;
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint TILE = 1u;
const bool GATED = (FLAGS & 1u) != 0u, BIAS0 = (FLAGS & 2u) != 0u, BIAS1 = (FLAGS & 4u) != 0u,
           RESIDUAL = (FLAGS & 8u) != 0u, PART = (FLAGS & 16u) != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint rows;         // tokens
  uint first_token;  // of x: logits takes the last tokens
  uint k, n;
  uint first_panel, panels;  // of this part of the matrix
  uint skip0, skip1;         // panels of the bound parts before it
  float scale, softcap;      // logits
  uint part;                 // where the gate of the output begins
}
p;

#define MATRIX_BINDING 1
#define MATRIX_BLOCK W0
#define MATRIX_WORDS w0
#define MATRIX_DTYPE DTYPE0
#define MATRIX_LOAD load0
#include "matrix.glsl"

layout(std430, binding = 0) readonly buffer X { float x[]; };

#include "add_slices.glsl"

#define DOT(w, acc)                                                       \
  for (uint t = 0u; t < TILE; ++t) {                                      \
    uint at = (p.first_token + min(t0 + t, p.rows - 1u)) * p.k + b * 32u; \
    float sum = 0.0;                                                      \
    if (count == 32u) {                                                   \
      for (uint i = 0u; i < 32u; ++i) sum += x[at + i] * w[i];            \
    } else {                                                              \
      for (uint i = 0u; i < count; ++i) sum += x[at + i] * w[i];          \
    }                                                                     \
    acc[t] += sum;                                                        \
  }
