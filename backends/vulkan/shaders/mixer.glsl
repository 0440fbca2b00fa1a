// What the recurrent mixers share (model.fbs: HeadMap). Include after math.glsl and reduce.glsl.
#include "decay_push.glsl"

// What one token may write into a state, per unit of key (backends/host/mixer.h). NaN passes.
float limit_write(float u) { return u > 1e20 ? 1e20 : u < -1e20 ? -1e20 : u; }

// Channels [0, n) of a head into shared memory, activated and normalised; ends with a barrier.
#define LOAD_MAPPED(to, from, base, n, ACTIVATION, NORM, epsilon)                               \
  {                                                                                             \
    uint lane_ = gl_LocalInvocationID.x;                                                        \
    float part_ = NORM == 2u ? -kInfinity : 0.0;                                                \
    barrier();                                                                                  \
    for (uint i_ = lane_; i_ < n; i_ += THREADS) {                                              \
      float v_ = activate(ACTIVATION, from[(base) + i_]);                                       \
      to[i_] = v_;                                                                              \
      part_ = NORM == 1u ? part_ + v_ * v_ : NORM == 2u ? (v_ > part_ ? v_ : part_) : part_ + v_; \
    }                                                                                           \
    if (NORM == 2u) {                                                                           \
      float most_ = max_of_group(part_);                                                        \
      part_ = 0.0;                                                                              \
      for (uint i_ = lane_; i_ < n; i_ += THREADS) part_ += to[i_] = exp_(to[i_] - most_);      \
    }                                                                                           \
    if (NORM != 0u) {                                                                           \
      float sum_ = sum_of_group(part_);                                                         \
      if (NORM == 1u) sum_ = sqrt(sum_ + epsilon);                                              \
      if (NORM == 3u) sum_ += epsilon;                                                          \
      if (NORM != 1u || sum_ != 0.0)                                                            \
        for (uint i_ = lane_; i_ < n; i_ += THREADS) to[i_] = to[i_] / sum_;                    \
    }                                                                                           \
    barrier();                                                                                  \
  }
