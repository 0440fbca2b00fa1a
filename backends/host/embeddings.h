// Sinusoids of times and positions: few numbers, computed once a run, where exactness matters more than
// speed.
#pragma once

#include <cmath>

#include "format/model_generated.h"

namespace linnet::host {

// One row of d channels. Frequencies and angles in f32, as diffusers computes them: with t near 1000 an f64
// angle would differ from the official one by more than the tolerance of a step.
inline void timestep_row(const fb::TimestepEmbeddingT& args, float t, int64_t d, float* y) {
  const int64_t half = d / 2;
  float* sines = y + (args.cos_first ? half : 0);
  float* cosines = y + (args.cos_first ? 0 : half);
  const auto slope = static_cast<float>(-std::log(static_cast<double>(args.max_period)));
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = slope * static_cast<float>(i) / (static_cast<float>(half) - args.shift);
    const auto frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
    const float angle = args.scale * (t * frequency);
    sines[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    cosines[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
  }
  if (d % 2 != 0) y[d - 1] = 0;
}

// The `half` channels (sines, then cosines) of place `index` on a side of `length`.
inline void position_channels(const fb::PositionEmbedding2dT& args, int64_t index, int64_t length,
                              int64_t half, float* y) {
  const double step = static_cast<double>(length) / static_cast<double>(args.base_size);
  const float position = static_cast<float>(index) / static_cast<float>(step) / args.interpolation_scale;
  const int64_t quarter = half / 2;
  for (int64_t n = 0; n < quarter; ++n) {
    const double frequency = 1.0 / std::pow(static_cast<double>(args.max_period),
                                            static_cast<double>(n) / static_cast<double>(quarter));
    const double angle = static_cast<double>(position) * frequency;
    y[n] = static_cast<float>(std::sin(angle));
    y[quarter + n] = static_cast<float>(std::cos(angle));
  }
}

// T5's bucket of a key at `distance` = key - query (Raffel et al. 2020): half of the buckets for each
// direction, half of these exact, the rest logarithmic up to the largest distance. In f32, which decides at
// the boundaries.
inline int32_t relative_bucket(const fb::SoftmaxAttentionT& args, int64_t distance) {
  const int32_t each = args.relative_buckets / 2, exact = each / 2;
  const int32_t base = distance > 0 ? each : 0;
  const int64_t far = distance < 0 ? -distance : distance;
  if (far < exact) return base + static_cast<int32_t>(far);
  const auto span = static_cast<float>(
      std::log(static_cast<double>(args.relative_max_distance) / static_cast<double>(exact)));
  const float log = std::log(static_cast<float>(far) / static_cast<float>(exact));
  const float place = log / span * static_cast<float>(each - exact);
  const int32_t bucket = place < static_cast<float>(each) ? exact + static_cast<int32_t>(place) : each - 1;
  return base + (bucket < each - 1 ? bucket : each - 1);
}

}  // namespace linnet::host
