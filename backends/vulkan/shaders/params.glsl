// What changes from run to run without a new recording. Include with PARAMS_BINDING defined.
layout(std430, binding = PARAMS_BINDING) readonly buffer Params {
  uint position;  // tokens that the states have seen
}
params;
