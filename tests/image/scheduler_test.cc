// Samplers against diffusers' trajectories on a made-up model (tests/oracles/image_schedulers.py).
#include "runtime/image/scheduler.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "converter/image/scheduler_import.h"
#include "runtime/image/noise.h"
#include "tests/image/tensors.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

// The official code computes its coefficients in f32, this one in f64: they part where both cancel.
constexpr double kTolerance = 2e-5;

// Follows the trajectory `name` of `file` with the made-up model, each step from the official sample, so that
// a step's error is its own, and once more freely, so that they do not add up either.
void check(const TensorFile& file, const std::string& name, const convert::Json& config, int steps) {
  CAPTURE(name);
  const auto scheduler_config = convert::import_scheduler(config, name);
  REQUIRE_MESSAGE(scheduler_config, (scheduler_config ? "" : scheduler_config.error().message));
  const std::vector<float> track = file[name + ".trajectory"], times = file[name + ".timesteps"];
  const size_t n = track.size() / static_cast<size_t>(steps + 1);
  auto scheduler = image::Scheduler::create(*scheduler_config, steps, n);
  REQUIRE_MESSAGE(scheduler, (scheduler ? "" : scheduler.error().message));
  REQUIRE(scheduler->steps() == steps);
  const bool trig = scheduler_config->kind == fb::SchedulerKind::Scm;
  const std::vector<float> noise = file.has(name + ".noise") ? file[name + ".noise"] : std::vector<float>();
  std::vector<float> sample(track.begin(), track.begin() + static_cast<std::ptrdiff_t>(n));
  std::vector<float> prediction(n), variance(n);
  double scale = 1;
  for (const float x : track) scale = std::max(scale, static_cast<double>(std::abs(x)));
  for (int i = 0; i < steps; ++i) {
    CAPTURE(i);
    CHECK(scheduler->timestep(i) == doctest::Approx(times[static_cast<size_t>(i)]).epsilon(1e-6));
    const float t = scheduler->timestep(i) / (trig ? 1.0f : 1000.0f);
    for (size_t j = 0; j < n; ++j) {
      prediction[j] = std::tanh(sample[j] * 0.7f) * 0.8f + 0.05f * t;
      variance[j] = std::tanh(sample[j] * 0.3f);
    }
    std::span<const float> drawn;
    if (scheduler->takes_noise(i)) {
      REQUIRE(noise.size() >= n * static_cast<size_t>(i + 1));
      drawn = std::span(noise).subspan(n * static_cast<size_t>(i), n);
    }
    scheduler->step(i, sample, prediction, variance, drawn);
    const auto expected = std::span(track).subspan(n * static_cast<size_t>(i + 1), n);
    CHECK(largest_difference(sample, expected) < kTolerance * scale);
  }
}

}  // namespace

TEST_CASE("samplers follow diffusers over options, orders and step counts") {
  const std::string folder = LINNET_GOLDEN "/image/schedulers";
  const TensorFile file(folder + "/reference.safetensors");
  const auto cases = convert::read_json(folder + "/cases.json", true);
  REQUIRE(cases);
  REQUIRE(cases->size() >= 38);
  for (const auto& c : *cases) check(file, c["name"].get<std::string>(), c["config"], c["steps"].get<int>());
}

// LINNET_SCHEDULER_GOLDEN=FOLDER: cases that image_schedulers.py --random made.
TEST_CASE("samplers follow another folder of cases" *
          doctest::skip(std::getenv("LINNET_SCHEDULER_GOLDEN") == nullptr)) {
  const std::string folder = std::getenv("LINNET_SCHEDULER_GOLDEN");
  const TensorFile file(folder + "/reference.safetensors");
  const auto cases = convert::read_json(folder + "/cases.json", true);
  REQUIRE(cases);
  for (const auto& c : *cases) check(file, c["name"].get<std::string>(), c["config"], c["steps"].get<int>());
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
  check(file, "flow_dpm_solver_4", with("flow_dpm_solver_4", "DPMSolverMultistepScheduler"), 4);
  check(file, "flow_dpm_solver_20", with("flow_dpm_solver_20", "DPMSolverMultistepScheduler"), 20);
  check(file, "flow_euler_10", with("flow_euler_10", "FlowMatchEulerDiscreteScheduler"), 10);
  check(file, "ddim_10", with("ddim_10", "DDIMScheduler"), 10);
  check(file, "dpm_solver_epsilon_12", with("dpm_solver_epsilon_12", "DPMSolverMultistepScheduler"), 12);
  convert::Json ddpm = with("", "DDPMScheduler");
  ddpm["variance_type"] = "learned_range";
  ddpm["clip_sample"] = false;
  check(file, "ddpm_learned_range_6", ddpm, 6);
  for (const int steps : {1, 2, 4})
    check(file, "scm_" + std::to_string(steps), with("", "SCMScheduler"), steps);
}

TEST_CASE("TrigFlow's input and output follow the pipeline's formulas") {
  const auto config = convert::import_scheduler({{"_class_name", "SCMScheduler"}}, "test");
  REQUIRE(config);
  const auto scheduler = image::Scheduler::create(*config, 2, 3);
  REQUIRE(scheduler);
  const std::vector<float> sample = {0.3f, -0.7f, 1.1f}, answer = {0.2f, 0.5f, -0.4f};
  std::vector<float> input(3), out = answer;
  for (const int i : {0, 1}) {
    const double t = i == 0 ? 1.57080 : 1.3, s = std::sin(t) / (std::cos(t) + std::sin(t));
    const double root = std::sqrt(s * s + (1 - s) * (1 - s));
    CHECK(scheduler->trig_input(i, sample, input) == doctest::Approx(s));
    out = answer;
    scheduler->trig_output(i, input, out);
    for (size_t j = 0; j < 3; ++j) {
      const double u = sample[j] / 0.5 * root;
      CHECK(input[j] == doctest::Approx(u));
      CHECK(out[j] == doctest::Approx(((1 - 2 * s) * u + (1 - 2 * s + 2 * s * s) * answer[j]) / root * 0.5));
    }
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
    CHECK(largest_difference(drawn, expected) < 2e-6);
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
  CHECK_FALSE(image::Scheduler::create(*config, 0, 4));
  CHECK_FALSE(image::Scheduler::create(*config, 1001, 4));
}
