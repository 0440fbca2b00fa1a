// The decay of a mixer's state (model.fbs has the kinds). Include with the bindings DECAY_BINDING (input),
// RATE_BINDING and OFFSET_BINDING and the constants DECAY_KIND and DECAY_FLAGS (1: a value for each channel, 2: there
// is a rate, 4: an offset) defined, and DECAY_PUSH of decay_push.glsl among the push constants.
#ifndef DECAY_BASE
#define DECAY_BASE 0u  // of the channels that count in a row of the input
#endif
#ifndef DECAY_INPUT_AT
#define DECAY_INPUT_AT(h, at) (at)  // where the input has what the offset has at `at`
#endif
layout(std430, binding = DECAY_BINDING) readonly buffer DecayInput { float decay_x[]; };
layout(std430, binding = RATE_BINDING) readonly buffer Rate { float decay_rate[]; };
layout(std430, binding = OFFSET_BINDING) readonly buffer Offset { float decay_offset[]; };

float decay_input(uint t, uint h, uint i) {
  uint at = (DECAY_FLAGS & 1u) != 0u ? h * p.decay_channels + i : h;
  float x = decay_x[t * p.decay_row + DECAY_BASE + DECAY_INPUT_AT(h, at)];
  return DECAY_KIND != 6u && (DECAY_FLAGS & 4u) != 0u ? x + decay_offset[at] : x;
}

// The step of a Softplus decay.
float decay_step(uint t, uint h, uint i) {
  float x = decay_input(t, h, i);
  float s = x > 30.0 ? x : log1p_(exp_(x));
  if (s < p.step_minimum) s = p.step_minimum;
  if (p.step_maximum > 0.0 && s > p.step_maximum) s = p.step_maximum;
  return s;
}

// exp(g), never above 1.
float decay_factor(uint t, uint h, uint i) {
  float g = 0.0;
  float rate = (DECAY_FLAGS & 2u) != 0u ? decay_rate[h] : 1.0;
  switch (DECAY_KIND) {
    case 0u:
      return 1.0;
    case 1u:
      g = rate;
      break;
    case 2u:
      g = decay_input(t, h, i);
      break;
    case 3u:
      g = log_sigmoid(decay_input(t, h, i)) / p.divisor;
      if (p.minimum != 0.0 && g < p.minimum) g = p.minimum;
      break;
    case 4u:
      g = rate * decay_step(t, h, i);
      break;
    case 5u:
      g = p.slope / (1.0 + exp_(-rate * decay_input(t, h, i)));
      break;
    case 6u: {
      float lowest = decay_offset[(DECAY_FLAGS & 1u) != 0u ? h * p.decay_channels + i : h];
      float f = lowest + (1.0 - lowest) / (1.0 + exp_(-decay_input(t, h, i)));
      return f > 1.0 ? 1.0 : f;
    }
  }
  return g > 0.0 ? 1.0 : exp_(g);
}
