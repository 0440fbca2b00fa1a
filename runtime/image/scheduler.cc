#include "runtime/image/scheduler.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/strings.h"

namespace linnet::image {
namespace {

constexpr int kMostSteps = 1000;

// TrigFlow's time in [0, 1] of an angle, and the root by which it is normed.
struct TrigTime {
  double s, root;
};
TrigTime trig_time(double angle) {
  const double s = std::sin(angle) / (std::cos(angle) + std::sin(angle));
  return {s, std::sqrt(s * s + (1 - s) * (1 - s))};
}

}  // namespace

Result<Scheduler> Scheduler::create(const fb::SchedulerT& config, int steps) {
  if (config.train_steps < 2 || config.train_steps > 100000 || config.solver_order < 1 ||
      config.solver_order > 3 || !(config.flow_shift > 0) || !(config.sigma_data > 0))
    return fail(ErrorCode::kInvalidFile, "the file's sampler has values that make no sense");
  if (steps < 1 || steps > std::min(kMostSteps, config.train_steps))
    return fail(ErrorCode::kInvalidArgument, strf("{} steps were asked for, expected 1 to {}", steps,
                                                  std::min(kMostSteps, config.train_steps)));
  Scheduler scheduler;
  scheduler.config_ = config;
  LINNET_TRY(scheduler.make_betas());
  switch (config.kind) {
    case fb::SchedulerKind::DpmSolver:
      LINNET_TRY(scheduler.make_solver_schedule(steps));
      break;
    case fb::SchedulerKind::FlowEuler:
      scheduler.make_flow_schedule(steps);
      break;
    case fb::SchedulerKind::Scm:
      scheduler.make_trig_schedule(steps);
      break;
    default:
      LINNET_TRY(scheduler.make_timesteps(steps));
  }
  return scheduler;
}

bool Scheduler::takes_noise(int i) const {
  switch (config_.kind) {
    case fb::SchedulerKind::Ddpm:
      return timestep(i) > 0;
    case fb::SchedulerKind::Scm:
      return i + 1 < steps();
    case fb::SchedulerKind::DpmSolver:
    case fb::SchedulerKind::FlowEuler:
      return config_.stochastic;
    default:
      return false;
  }
}

float Scheduler::told(int i, float scale) const {
  return trig() ? static_cast<float>(trig_time(timestep(i)).s) : timestep(i) * scale;
}

void Scheduler::input(int i, const SamplerVectors& v, const VectorSlice& to, Ops& ops) const {
  const double scale = trig() ? trig_time(timestep(i)).root / config_.sigma_data : 1;
  ops.push_back(sum_of(to, v.elements, {{v.sample, scale}}));
}

void Scheduler::answer(int i, const SamplerVectors& v, Ops& ops) const {
  if (!trig()) return;
  const auto [s, root] = trig_time(timestep(i));
  // The denoiser's input is the sample times root / sigma_data.
  ops.push_back(
      sum_of(v.prediction, v.elements,
             {{v.prediction, (1 - 2 * s + 2 * s * s) / root * config_.sigma_data}, {v.sample, 1 - 2 * s}}));
}

void Scheduler::step(int i, const SamplerVectors& v, Ops& ops) const {
  switch (config_.kind) {
    case fb::SchedulerKind::DpmSolver:
      return solver_step(i, v, ops);
    case fb::SchedulerKind::FlowEuler:
      return flow_euler_step(i, v, ops);
    case fb::SchedulerKind::Scm:
      return trig_step(i, v, ops);
    case fb::SchedulerKind::Ddim:
      return ddim_step(i, v, ops);
    default:
      return ddpm_step(i, v, ops);
  }
}

// What the prediction says the sample is without noise, in sample = alpha clean + sigma noise.
VectorOp Scheduler::predict_clean(int i, const SamplerVectors& v, fb::Prediction kind, double alpha,
                                  double sigma) const {
  double x = 0, p = 1;
  switch (kind) {
    case fb::Prediction::Epsilon:
      x = 1 / alpha;
      p = -sigma / alpha;
      break;
    case fb::Prediction::Velocity:
      x = alpha;
      p = -sigma;
      break;
    case fb::Prediction::Flow:
      x = 1;
      p = -sigma;
      break;
    default:
      break;
  }
  return sum_of(clean(i, v), v.elements, {{v.sample, x}, {v.prediction, p}});
}

// DDPM's and DDIM's; `now` is the alpha bar of the step.
VectorOp Scheduler::predict_clipped(int i, const SamplerVectors& v, double now) const {
  VectorOp op = predict_clean(i, v, config_.prediction, std::sqrt(now), std::sqrt(1 - now));
  if (config_.clip_range > 0) op.limit = config_.clip_range;
  return op;
}

void Scheduler::ddpm_step(int i, const SamplerVectors& v, Ops& ops) const {
  const double now = alpha_bar(static_cast<int64_t>(timestep(i)));
  const double next = i + 1 < steps() ? alpha_bar(static_cast<int64_t>(timestep(i + 1))) : 1.0;
  const double alpha = now / next, beta = 1 - alpha;
  const double small = std::max((1 - next) / (1 - now) * beta, 1e-20);
  ops.push_back(predict_clipped(i, v, now));
  double deviation = 0;
  if (takes_noise(i)) {
    const bool large = config_.variance == fb::VarianceKind::FixedLarge;
    deviation = takes_variance() ? 1 : std::sqrt(large ? beta : small);
  }
  VectorOp op = sum_of(v.sample, v.elements,
                       {{v.sample, std::sqrt(alpha) * (1 - next) / (1 - now)},
                        {clean(i, v), std::sqrt(next) * beta / (1 - now)},
                        {v.noise, deviation}});
  if (takes_noise(i) && takes_variance()) {
    op.gain_of = v.variance;
    op.gain = VectorOp::Gain::kRoot;
    if (config_.variance == fb::VarianceKind::LearnedRange) {
      // Half the logarithm of the variance: -1 and 1 are those of the least and of beta.
      op.gain = VectorOp::Gain::kExp;
      op.slope = (std::log(beta) - std::log(small)) / 4;
      op.offset = (std::log(beta) + std::log(small)) / 4;
    }
  }
  ops.push_back(op);
}

void Scheduler::ddim_step(int i, const SamplerVectors& v, Ops& ops) const {
  const auto t = static_cast<int64_t>(timestep(i));
  const int64_t to = t - config_.train_steps / steps();
  const double now = alpha_bar(t);
  const double next = to >= 0 ? alpha_bar(to) : (config_.last_alpha_is_one ? 1.0 : alpha_bar(0));
  ops.push_back(predict_clipped(i, v, now));
  // The noise is that of the unclipped prediction.
  const double alpha = std::sqrt(now), sigma = std::sqrt(1 - now);
  double x = 0, p = 1;
  if (config_.prediction == fb::Prediction::Sample) {
    x = 1 / sigma;
    p = -alpha / sigma;
  } else if (config_.prediction == fb::Prediction::Velocity) {
    x = sigma;
    p = alpha;
  }
  const double sigma_next = std::sqrt(1 - next);
  ops.push_back(
      sum_of(v.sample, v.elements,
             {{clean(i, v), std::sqrt(next)}, {v.sample, sigma_next * x}, {v.prediction, sigma_next * p}}));
}

void Scheduler::flow_euler_step(int i, const SamplerVectors& v, Ops& ops) const {
  const double now = sigmas_[static_cast<size_t>(i)], next = sigmas_[static_cast<size_t>(i) + 1];
  ops.push_back(predict_clean(i, v, fb::Prediction::Flow, 1 - now, now));
  if (config_.stochastic)
    ops.push_back(sum_of(v.sample, v.elements, {{clean(i, v), 1 - next}, {v.noise, next}}));
  else
    ops.push_back(sum_of(v.sample, v.elements, {{v.sample, 1}, {v.prediction, next - now}}));
}

Scheduler::Level Scheduler::level(size_t i) const {
  const double sigma = sigmas_[i];
  Level level;
  if (config_.sigmas == fb::SigmaSchedule::Flow) {
    level.alpha = 1 - sigma;
    level.sigma = sigma;
  } else {
    level.alpha = 1 / std::sqrt(sigma * sigma + 1);
    level.sigma = sigma * level.alpha;
  }
  level.lambda = std::log(level.alpha) - std::log(level.sigma);  // infinite at the end
  return level;
}

int Scheduler::order_at(int i) const {
  const int n = steps();
  const bool few = config_.lower_order_final && n < 15;
  if (i == n - 1 && (config_.euler_at_final || few || !config_.last_sigma_is_least)) return 1;
  const int order = std::min(config_.solver_order, i + 1);
  return i == n - 2 && few ? std::min(order, 2) : order;
}

// DPM-Solver++ and its SDE form: x' = sample x + d0 D0 + d1 D1 + d2 D2 + noise n, where D0 is the newest
// clean sample and D1, D2 are differences of the last ones.
Scheduler::Coefficients Scheduler::solver(int i, int order) const {
  const Level from = level(static_cast<size_t>(i)), to = level(static_cast<size_t>(i) + 1);
  const double h = to.lambda - from.lambda, decay = std::exp(-h);
  Coefficients c;
  if (!config_.stochastic) {
    c.sample = to.sigma / from.sigma;
    c.d0 = -to.alpha * (decay - 1);
    if (order == 2) c.d1 = config_.heun ? to.alpha * ((decay - 1) / h + 1) : -0.5 * to.alpha * (decay - 1);
    if (order == 3) {
      c.d1 = to.alpha * ((decay - 1) / h + 1);
      c.d2 = -to.alpha * ((decay - 1 + h) / (h * h) - 0.5);
    }
    return c;
  }
  const double twice = std::exp(-2 * h);
  c.sample = to.sigma / from.sigma * decay;
  c.d0 = to.alpha * (1 - twice);
  if (order == 2)
    c.d1 = config_.heun ? to.alpha * ((1 - twice) / (-2 * h) + 1) : 0.5 * to.alpha * (1 - twice);
  if (order == 3) {
    c.d1 = to.alpha * ((1 - twice) / (-2 * h) + 1);
    c.d2 = to.alpha * ((1 - twice - 2 * h) / (4 * h * h) - 0.5);
  }
  c.noise = to.sigma * std::sqrt(1 - twice);
  return c;
}

void Scheduler::solver_step(int i, const SamplerVectors& v, Ops& ops) const {
  const auto at = static_cast<size_t>(i);
  const Level now = level(at);
  ops.push_back(predict_clean(i, v, config_.prediction, now.alpha, now.sigma));
  const int order = order_at(i);
  const Coefficients c = solver(i, order);
  const double h = level(at + 1).lambda - now.lambda;
  // What the differences are multiplied by: of the newest two clean samples and of the two before.
  double newer = 0, older = 0;
  if (order >= 2) {
    const double r0 = (now.lambda - level(at - 1).lambda) / h;
    newer = c.d1 / r0;
    if (order == 3) {
      // D1 = d + r0 / (r0 + r1) (d - e) and D2 = (d - e) / (r0 + r1), d and e being the differences over r0
      // and r1.
      const double r1 = (level(at - 1).lambda - level(at - 2).lambda) / h;
      const double both = (c.d1 * r0 + c.d2) / (r0 + r1);
      newer += both / r0;
      older = -both / r1;
    }
  }
  const VectorSlice& m0 = clean(i, v);
  const VectorSlice& m1 = order >= 2 ? clean(i - 1, v) : m0;
  const VectorSlice& m2 = order == 3 ? clean(i - 2, v) : m0;
  ops.push_back(sum_of(
      v.sample, v.elements,
      {{v.sample, c.sample}, {m0, c.d0 + newer}, {m1, older - newer}, {m2, -older}, {v.noise, c.noise}}));
}

void Scheduler::trig_step(int i, const SamplerVectors& v, Ops& ops) const {
  const double now = sigmas_[static_cast<size_t>(i)], next = sigmas_[static_cast<size_t>(i) + 1];
  ops.push_back(sum_of(clean(i, v), v.elements, {{v.sample, std::cos(now)}, {v.prediction, -std::sin(now)}}));
  const double fresh = takes_noise(i) ? std::sin(next) * config_.sigma_data : 0;
  ops.push_back(sum_of(v.sample, v.elements, {{clean(i, v), std::cos(next)}, {v.noise, fresh}}));
}

}  // namespace linnet::image
