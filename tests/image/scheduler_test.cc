// Samplers against diffusers' trajectories on a made-up model (tests/oracles/image_schedulers.py).
#include "runtime/image/scheduler.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "runtime/image/noise.h"
#include "tests/image/trajectory.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

// The official code computes its coefficients in f32, this one in f64: they part where both cancel.
constexpr double kTolerance = 2e-5;

struct Host {
  HostVectors vectors{VectorPlan{std::vector<size_t>(kTrajectoryVectors, 4096), {}}};

  void write(size_t vector, std::span<const float> values) {
    REQUIRE(values.size() <= vectors[vector].size());
    std::ranges::copy(values, vectors[vector].begin());
  }
  void read(size_t vector, std::span<float> values) {
    std::ranges::copy(vectors[vector].first(values.size()), values.begin());
  }
  void apply(std::span<const VectorOp> ops) { CHECK(vectors.apply(ops, {}, {})); }
};

}  // namespace

TEST_CASE("samplers follow diffusers over options, orders and step counts") {
  Host host;
  CHECK(check_trajectories(LINNET_GOLDEN "/image/schedulers", host, kTolerance) == 38);
}

// LINNET_SCHEDULER_GOLDEN=FOLDER: cases that image_schedulers.py --random made.
TEST_CASE("samplers follow another folder of cases" *
          doctest::skip(std::getenv("LINNET_SCHEDULER_GOLDEN") == nullptr)) {
  Host host;
  check_trajectories(std::getenv("LINNET_SCHEDULER_GOLDEN"), host, kTolerance);
}

TEST_CASE("samplers follow the published fixtures") {
  const std::string folder = LINNET_GOLDEN "/image/schedulers_published";
  const TensorFile file(folder + "/reference.safetensors");
  const auto manifest = convert::read_json(folder + "/manifest.json", true);
  REQUIRE(manifest);
  const auto with = [&](const char* config, const char* name) {
    convert::Json c =
        (*manifest)["configs"].contains(config) ? (*manifest)["configs"][config] : convert::Json::object();
    c["_class_name"] = name;
    return c;
  };
  Host host;
  const auto check = [&](const std::string& name, const convert::Json& config, int steps) {
    check_trajectory(file, name, config, steps, host, kTolerance);
  };
  check("flow_dpm_solver_4", with("flow_dpm_solver_4", "DPMSolverMultistepScheduler"), 4);
  check("flow_dpm_solver_20", with("flow_dpm_solver_20", "DPMSolverMultistepScheduler"), 20);
  check("flow_euler_10", with("flow_euler_10", "FlowMatchEulerDiscreteScheduler"), 10);
  check("ddim_10", with("ddim_10", "DDIMScheduler"), 10);
  check("dpm_solver_epsilon_12", with("dpm_solver_epsilon_12", "DPMSolverMultistepScheduler"), 12);
  convert::Json ddpm = with("", "DDPMScheduler");
  ddpm["variance_type"] = "learned_range";
  ddpm["clip_sample"] = false;
  check("ddpm_learned_range_6", ddpm, 6);
  for (const int steps : {1, 2, 4}) check("scm_" + std::to_string(steps), with("", "SCMScheduler"), steps);
}

TEST_CASE("TrigFlow's input and output follow the pipeline's formulas") {
  const auto config = convert::import_scheduler({{"_class_name", "SCMScheduler"}}, "test");
  REQUIRE(config);
  const auto scheduler = image::Scheduler::create(*config, 2);
  REQUIRE(scheduler);
  const std::vector<float> sample = {0.3f, -0.7f, 1.1f}, answer = {0.2f, 0.5f, -0.4f};
  const image::SamplerVectors v = trajectory_vectors(3);
  Host host;
  for (const int i : {0, 1}) {
    const double t = i == 0 ? 1.57080 : 1.3, s = std::sin(t) / (std::cos(t) + std::sin(t));
    const double root = std::sqrt(s * s + (1 - s) * (1 - s));
    CHECK(scheduler->told(i, 1000) == doctest::Approx(s));
    host.write(kSample, sample);
    host.write(kPrediction, answer);
    std::vector<VectorOp> ops;
    scheduler->input(i, v, v.noise, ops);
    scheduler->answer(i, v, ops);
    host.apply(ops);
    for (size_t j = 0; j < 3; ++j) {
      const double u = sample[j] / 0.5 * root;
      CHECK(host.vectors[kNoise][j] == doctest::Approx(u));
      CHECK(host.vectors[kPrediction][j] ==
            doctest::Approx(((1 - 2 * s) * u + (1 - 2 * s + 2 * s * s) * answer[j]) / root * 0.5));
    }
  }
}

TEST_CASE("a sampler leaves its predicted clean samples where it says") {
  const auto config = convert::import_scheduler(
      {{"_class_name", "DPMSolverMultistepScheduler"}, {"solver_order", 3}, {"prediction_type", "sample"}},
      "test");
  REQUIRE(config);
  const auto scheduler = image::Scheduler::create(*config, 6);
  REQUIRE(scheduler);
  CHECK(scheduler->clean_vectors() == 3);
  const image::SamplerVectors v = trajectory_vectors(1);
  Host host;
  for (int i = 0; i < 6; ++i) {
    CHECK(scheduler->told(i, 0.5f) == scheduler->timestep(i) / 2);
    const float predicted = static_cast<float>(i + 1);
    host.write(kPrediction, {&predicted, 1});
    std::vector<VectorOp> ops;
    scheduler->input(i, v, v.noise, ops);
    scheduler->answer(i, v, ops);  // changes neither
    scheduler->step(i, v, ops);
    const float before = host.vectors[kSample][0];
    host.apply(ops);
    CHECK(host.vectors[kNoise][0] == before);
    // The last three are there.
    for (int back = 0; back < std::min(i + 1, 3); ++back)
      CHECK(host.vectors[scheduler->clean(i - back, v).index][0] == static_cast<float>(i + 1 - back));
  }
}

TEST_CASE("normal noise is that of torch.randn with the same seed") {
  const TensorFile file(LINNET_GOLDEN "/image/schedulers/reference.safetensors");
  const std::pair<const char*, uint64_t> cases[] = {
      {"randn_16_0", 0}, {"randn_64_1", 1}, {"randn_100_42", 42}, {"randn_1000_2147483653", 2147483653u}};
  for (const auto& [name, seed] : cases) {
    CAPTURE(name);
    const std::vector<float> expected = file[name];
    std::vector<float> drawn(expected.size());
    image::Noise(seed).fill(drawn);
    check_truth(name, expected);
    check_below("noise", largest_difference(drawn, expected), 2e-6);
  }
}

TEST_CASE("what a sampler cannot do is refused by name") {
  const auto refusal = [](convert::Json config) {
    const auto scheduler = convert::import_scheduler(config, "scheduler_config.json");
    REQUIRE_FALSE(scheduler);
    return scheduler.error().message;
  };
  CHECK(refusal({{"_class_name", "HeunDiscreteScheduler"}}).find("HeunDiscreteScheduler") !=
        std::string::npos);
  CHECK(refusal({{"_class_name", "DDIMScheduler"}, {"thresholding", true}}).find("thresholding") !=
        std::string::npos);
  CHECK(refusal({{"_class_name", "DPMSolverMultistepScheduler"}, {"algorithm_type", "dpmsolver"}})
            .find("algorithm_type") != std::string::npos);
  CHECK(refusal({{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"use_dynamic_shifting", true}})
            .find("use_dynamic_shifting") != std::string::npos);
  CHECK(refusal({{"no", "class"}}).find("_class_name") != std::string::npos);
  const auto config = convert::import_scheduler({{"_class_name", "DDIMScheduler"}}, "test");
  REQUIRE(config);
  CHECK_FALSE(image::Scheduler::create(*config, 0));
  CHECK_FALSE(image::Scheduler::create(*config, 1001));
}
