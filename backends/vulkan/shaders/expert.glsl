// What the two products of mixture_of_experts share. Panels are counted through the stack of experts.
// Constants: 1 dtype of the first matrix, 2 of the second, 3 activation, 4 whether K is a multiple of 32.
layout(constant_id = 1) const uint DTYPE0 = 0u;
layout(constant_id = 2) const uint DTYPE1 = 0u;
layout(constant_id = 3) const uint ACTIVATION = 0u;
layout(constant_id = 4) const uint OF_GROUPS = 0u;
const bool WHOLE = OF_GROUPS != 0u;

layout(push_constant) uniform Push {
  uint groups;
  uint slots;                      // experts of a token
  uint k, n, panels;               // of one expert
  uint first_panel, bound_panels;  // of the stack, that this part reaches
  uint skip0, skip1;               // panels of the bound parts before it
  uint weight_row, weight_first;   // weights of a token, and the first of them that counts
  uint flags;                      // 1: every slot is expert 0; 2: y is added to; 4: there is a residual
}
p;
