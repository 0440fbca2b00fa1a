// What the products y = x W^T of linear and logits share: constants, push constants, inputs.
// Constants: 1 dtype of W_0, 2 of W_1, 3 activation, 4 flags, 5 tokens of a tile.
layout(constant_id = 1) const uint DTYPE0 = 0u;
layout(constant_id = 2) const uint DTYPE1 = 0u;
layout(constant_id = 3) const uint ACTIVATION = 0u;
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint TILE = 1u;
const bool GATED = (FLAGS & 1u) != 0u, BIAS0 = (FLAGS & 2u) != 0u, BIAS1 = (FLAGS & 4u) != 0u,
           RESIDUAL = (FLAGS & 8u) != 0u, PART = (FLAGS & 16u) != 0u, WHOLE = (FLAGS & 32u) != 0u;

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

layout(std430, binding = 0) readonly buffer X { float x[]; };
