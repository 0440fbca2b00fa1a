// Samplers: from noise to a sample by calls of a denoiser. The mathematics of diffusers' DDPM, DDIM,
// DPMSolverMultistep (epsilon, v, sample and flow prediction), FlowMatchEulerDiscrete and SCM schedulers.
#pragma once

#include <span>
#include <vector>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::image {

// One trajectory's sampler. All memory is taken by create(); step() allocates nothing. Not thread safe.
class Scheduler {
 public:
  // `elements`: of one sample. Errors: kInvalidArgument for a step count the sampler cannot do, kInvalidFile
  // for a configuration that makes no sense.
  static Result<Scheduler> create(const fb::SchedulerT& config, int steps, size_t elements);

  int steps() const { return static_cast<int>(timesteps_.size()); }
  // What the denoiser of step i is told, before the model's own timestep_scale. SCM: the angle.
  float timestep(int i) const { return timesteps_[static_cast<size_t>(i)]; }
  // Noise levels, steps() + 1 of them; empty for DDPM, DDIM and SCM.
  std::span<const float> sigmas() const { return sigmas_; }
  // What N(0, 1) is multiplied by to become the first sample.
  float initial_scale() const { return config_.kind == fb::SchedulerKind::Scm ? config_.sigma_data : 1.0f; }
  bool takes_noise(int i) const;
  bool takes_variance() const {
    return config_.kind == fb::SchedulerKind::Ddpm && config_.variance >= fb::VarianceKind::Learned;
  }

  // SCM: the denoiser's input for `sample`, its timestep in [0, 1], and the TrigFlow output of its answer
  // (`answer` becomes it).
  float trig_input(int i, std::span<const float> sample, std::span<float> input) const;
  void trig_output(int i, std::span<const float> input, std::span<float> answer) const;

  // Advances `sample` by step i. `prediction`: the (guided) output; `variance`: the predicted one, if
  // takes_variance(); `noise`: N(0, 1), if takes_noise(i). denoised() is then the clean sample predicted.
  // Steps are taken in order.
  void step(int i, std::span<float> sample, std::span<const float> prediction,
            std::span<const float> variance, std::span<const float> noise);
  std::span<const float> denoised() const { return history_.back(); }

 private:
  Scheduler() = default;
  Result<void> make_betas();
  Result<void> make_timesteps(int steps);
  Result<void> make_solver_schedule(int steps);
  void make_flow_schedule(int steps);
  void make_trig_schedule(int steps);
  double alpha_bar(int64_t t) const { return alpha_bar_[static_cast<size_t>(t)]; }
  std::vector<double> respaced(int steps, const std::vector<double>& training) const;
  double timestep_of(double sigma, const std::vector<double>& training) const;

  struct Coefficients {
    double sample = 0, d0 = 0, d1 = 0, d2 = 0, noise = 0;
  };
  struct Level {
    double alpha, sigma, lambda;
  };
  Level level(size_t i) const;
  int order_at(int i) const;
  Coefficients solver(int i, int order) const;
  void solver_step(int i, std::span<float> sample, std::span<const float> prediction,
                   std::span<const float> noise);
  void ddpm_step(int i, std::span<float> sample, std::span<const float> prediction,
                 std::span<const float> variance, std::span<const float> noise);
  void ddim_step(int i, std::span<float> sample, std::span<const float> prediction);
  void flow_euler_step(int i, std::span<float> sample, std::span<const float> prediction,
                       std::span<const float> noise);
  void trig_step(int i, std::span<float> sample, std::span<const float> prediction,
                 std::span<const float> noise);
  void clip(std::span<float> clean) const;

  fb::SchedulerT config_;
  std::vector<float> alpha_bar_;  // by training step
  std::vector<float> timesteps_, sigmas_;
  std::vector<std::vector<float>> history_;  // predicted clean samples, the newest last
};

}  // namespace linnet::image
