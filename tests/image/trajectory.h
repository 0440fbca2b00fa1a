// Follows diffusers' trajectories (tests/oracles/image_schedulers.py) on a made-up model, with the sampler's
// operations done by any holder of vectors.
#pragma once

#include <cmath>

#include "converter/image/scheduler_import.h"
#include "converter/readers/json.h"
#include "runtime/image/scheduler.h"
#include "tests/image/tensors.h"

namespace linnet::testing {

// Vectors of a trajectory in the order in which a holder has them.
enum : size_t { kSample, kNoise, kPrediction, kVariance, kFirstClean };
inline constexpr size_t kTrajectoryVectors = kFirstClean + image::SamplerVectors::kMostClean;

inline image::SamplerVectors trajectory_vectors(size_t elements) {
  image::SamplerVectors v;
  v.elements = elements;
  v.sample.index = kSample;
  v.noise.index = kNoise;
  v.prediction.index = kPrediction;
  v.variance.index = kVariance;
  for (size_t i = 0; i < v.clean.size(); ++i) v.clean[i].index = kFirstClean + i;
  return v;
}

// Each step goes on from the one before, so that errors may not add up. `Holder` has write(vector, values),
// read(vector, values) and apply(operations).
template <typename Holder>
void check_trajectory(const TensorFile& file, const std::string& name, const convert::Json& config, int steps,
                      Holder& holder, double tolerance) {
  CAPTURE(name);
  const auto scheduler_config = convert::import_scheduler(config, name);
  REQUIRE_MESSAGE(scheduler_config, (scheduler_config ? "" : scheduler_config.error().message));
  const std::vector<float> track = file[name + ".trajectory"], times = file[name + ".timesteps"];
  REQUIRE(steps > 0);
  const size_t n = track.size() / static_cast<size_t>(steps + 1);
  const auto scheduler = image::Scheduler::create(*scheduler_config, steps);
  REQUIRE_MESSAGE(scheduler, (scheduler ? "" : scheduler.error().message));
  REQUIRE(scheduler->steps() == steps);
  const bool trig = scheduler_config->kind == fb::SchedulerKind::Scm;
  const std::vector<float> noise = file.has(name + ".noise") ? file[name + ".noise"] : std::vector<float>();
  const image::SamplerVectors v = trajectory_vectors(n);
  std::vector<float> sample(track.begin(), track.begin() + static_cast<std::ptrdiff_t>(n));
  std::vector<float> prediction(n), variance(n);
  holder.write(kSample, sample);
  check_truth(name, track);
  const double scale = std::max(1.0, largest_magnitude(track));
  for (int i = 0; i < steps; ++i) {
    CAPTURE(i);
    CHECK(scheduler->timestep(i) == doctest::Approx(times[static_cast<size_t>(i)]).epsilon(1e-6));
    const float t = scheduler->timestep(i) / (trig ? 1.0f : 1000.0f);
    for (size_t j = 0; j < n; ++j) {
      prediction[j] = std::tanh(sample[j] * 0.7f) * 0.8f + 0.05f * t;
      variance[j] = std::tanh(sample[j] * 0.3f);
    }
    holder.write(kPrediction, prediction);
    holder.write(kVariance, variance);
    if (scheduler->takes_noise(i)) {
      REQUIRE(noise.size() >= n * static_cast<size_t>(i + 1));
      holder.write(kNoise, std::span(noise).subspan(n * static_cast<size_t>(i), n));
    }
    std::vector<VectorOp> ops;
    scheduler->step(i, v, ops);
    holder.apply(ops);
    holder.read(kSample, sample);
    const auto expected = std::span(track).subspan(n * static_cast<size_t>(i + 1), n);
    check_below("trajectory", largest_difference(sample, expected) / scale, tolerance);
  }
}

// All cases of a folder that image_schedulers.py made. Returns their number.
template <typename Holder>
size_t check_trajectories(const std::string& folder, Holder& holder, double tolerance) {
  const TensorFile file(folder + "/reference.safetensors");
  const auto cases = convert::read_json(folder + "/cases.json", true);
  REQUIRE(cases);
  REQUIRE_FALSE(cases->empty());
  for (const auto& c : *cases)
    check_trajectory(file, c["name"].template get<std::string>(), c["config"], c["steps"].template get<int>(),
                     holder, tolerance);
  return cases->size();
}

}  // namespace linnet::testing
