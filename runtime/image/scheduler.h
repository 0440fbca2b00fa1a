// Samplers: from noise to a sample by calls of a denoiser. The mathematics of diffusers' DDPM, DDIM,
// DPMSolverMultistep (epsilon, v, sample and flow prediction), FlowMatchEulerDiscrete and SCM schedulers.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "format/model_generated.h"
#include "linnet/result.h"
#include "runtime/engine/vectors.h"

namespace linnet::image {

// Where the vectors of a trajectory are, each of `elements`.
struct SamplerVectors {
  static constexpr size_t kMostClean = 3;
  size_t elements = 0;
  VectorSlice sample, prediction, variance, noise;
  // The clean samples predicted in the last steps: Scheduler::clean() says which is whose.
  std::array<VectorSlice, kMostClean> clean;
};

// One trajectory's sampler. It does not touch the vectors: it says with which operations they go on, so that
// they may be wherever the denoiser runs.
class Scheduler {
 public:
  // Errors: kInvalidArgument for a step count the sampler cannot do, kInvalidFile for a configuration that
  // makes no sense.
  static Result<Scheduler> create(const fb::SchedulerT& config, int steps);

  int steps() const { return static_cast<int>(timesteps_.size()); }
  // The timestep of step i; SCM: the angle.
  float timestep(int i) const { return timesteps_[static_cast<size_t>(i)]; }
  // Noise levels, steps() + 1 of them; empty for DDPM, DDIM and SCM.
  std::span<const float> sigmas() const { return sigmas_; }
  // What N(0, 1) is multiplied by to become the first sample, and the last sample divided by.
  float initial_scale() const { return trig() ? config_.sigma_data : 1.0f; }
  bool takes_noise(int i) const;
  bool takes_variance() const {
    return config_.kind == fb::SchedulerKind::Ddpm && config_.variance >= fb::VarianceKind::Learned;
  }

  // What the denoiser of step i is told; `scale`: the model's own timestep_scale, which TrigFlow (SCM) does
  // not take: its denoiser is told a number in [0, 1].
  float told(int i, float scale) const;

  // These append operations. Steps are taken in order.
  // `to`, the denoiser's input, from the sample.
  void input(int i, const SamplerVectors& v, const VectorSlice& to, std::vector<VectorOp>& ops) const;
  // The prediction from the denoiser's (guided) answer, which is there in its place. TrigFlow's alone
  // differs.
  void answer(int i, const SamplerVectors& v, std::vector<VectorOp>& ops) const;
  // The next sample. Takes the variance if takes_variance(), the noise, N(0, 1), if takes_noise(i).
  void step(int i, const SamplerVectors& v, std::vector<VectorOp>& ops) const;
  // Where step i leaves the clean sample it predicted.
  const VectorSlice& clean(int i, const SamplerVectors& v) const {
    return v.clean[static_cast<size_t>(i) % clean_vectors()];
  }
  size_t clean_vectors() const {
    return config_.kind == fb::SchedulerKind::DpmSolver ? static_cast<size_t>(config_.solver_order) : 1;
  }

 private:
  using Ops = std::vector<VectorOp>;

  Scheduler() = default;
  Result<void> make_betas();
  Result<void> make_timesteps(int steps);
  Result<void> make_solver_schedule(int steps);
  void make_flow_schedule(int steps);
  void make_trig_schedule(int steps);
  bool trig() const { return config_.kind == fb::SchedulerKind::Scm; }
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
  VectorOp predict_clean(int i, const SamplerVectors& v, fb::Prediction kind, double alpha,
                         double sigma) const;
  VectorOp predict_clipped(int i, const SamplerVectors& v, double now) const;
  void solver_step(int i, const SamplerVectors& v, Ops& ops) const;
  void ddpm_step(int i, const SamplerVectors& v, Ops& ops) const;
  void ddim_step(int i, const SamplerVectors& v, Ops& ops) const;
  void flow_euler_step(int i, const SamplerVectors& v, Ops& ops) const;
  void trig_step(int i, const SamplerVectors& v, Ops& ops) const;

  fb::SchedulerT config_;
  std::vector<float> alpha_bar_;  // by training step
  std::vector<float> timesteps_, sigmas_;
};

}  // namespace linnet::image
