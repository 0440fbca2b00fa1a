// Push constants of a decay (model.fbs: Decay).
#define DECAY_PUSH    \
  uint decay_row;      \
  uint decay_channels; \
  float divisor, minimum, step_minimum, step_maximum, slope;
