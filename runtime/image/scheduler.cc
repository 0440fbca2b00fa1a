#include "runtime/image/scheduler.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/strings.h"

namespace linnet::image {
namespace {

constexpr int kMostSteps = 1000;

// x = a x + b y
void mix(std::span<float> x, double a, std::span<const float> y, double b) {
  const auto fa = static_cast<float>(a), fb = static_cast<float>(b);
  for (size_t i = 0; i < x.size(); ++i) x[i] = fa * x[i] + fb * y[i];
}

}  // namespace

Result<Scheduler> Scheduler::create(const fb::SchedulerT& config, int steps, size_t elements) {
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
  const bool multistep = config.kind == fb::SchedulerKind::DpmSolver;
  scheduler.history_.resize(multistep ? static_cast<size_t>(config.solver_order) : 1);
  for (auto& clean : scheduler.history_) clean.assign(elements, 0.0f);
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

void Scheduler::step(int i, std::span<float> sample, std::span<const float> prediction,
                     std::span<const float> variance, std::span<const float> noise) {
  switch (config_.kind) {
    case fb::SchedulerKind::DpmSolver:
      return solver_step(i, sample, prediction, noise);
    case fb::SchedulerKind::FlowEuler:
      return flow_euler_step(i, sample, prediction, noise);
    case fb::SchedulerKind::Scm:
      return trig_step(i, sample, prediction, noise);
    case fb::SchedulerKind::Ddim:
      return ddim_step(i, sample, prediction);
    default:
      return ddpm_step(i, sample, prediction, variance, noise);
  }
}

void Scheduler::clip(std::span<float> clean) const {
  if (config_.clip_range <= 0) return;
  for (float& x : clean) x = std::clamp(x, -config_.clip_range, config_.clip_range);
}

// clean = what the prediction says the sample is without noise, in x = alpha clean + sigma noise.
static void predict_clean(fb::Prediction kind, double alpha, double sigma, std::span<const float> sample,
                          std::span<const float> prediction, std::span<float> clean) {
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
  const auto fx = static_cast<float>(x), fp = static_cast<float>(p);
  for (size_t i = 0; i < clean.size(); ++i) clean[i] = fx * sample[i] + fp * prediction[i];
}

void Scheduler::ddpm_step(int i, std::span<float> sample, std::span<const float> prediction,
                          std::span<const float> variance, std::span<const float> noise) {
  const double now = alpha_bar(static_cast<int64_t>(timestep(i)));
  const double next = i + 1 < steps() ? alpha_bar(static_cast<int64_t>(timestep(i + 1))) : 1.0;
  const double alpha = now / next, beta = 1 - alpha;
  const std::span<float> clean = history_.back();
  predict_clean(config_.prediction, std::sqrt(now), std::sqrt(1 - now), sample, prediction, clean);
  clip(clean);
  mix(sample, std::sqrt(alpha) * (1 - next) / (1 - now), clean, std::sqrt(next) * beta / (1 - now));
  if (!takes_noise(i)) return;
  const double small = std::max((1 - next) / (1 - now) * beta, 1e-20);
  if (config_.variance == fb::VarianceKind::LearnedRange) {
    const auto low = static_cast<float>(std::log(small)), high = static_cast<float>(std::log(beta));
    for (size_t j = 0; j < sample.size(); ++j) {
      const float fraction = (variance[j] + 1) / 2;
      sample[j] += std::exp(0.5f * (fraction * high + (1 - fraction) * low)) * noise[j];
    }
    return;
  }
  if (config_.variance == fb::VarianceKind::Learned) {
    for (size_t j = 0; j < sample.size(); ++j) sample[j] += std::sqrt(variance[j]) * noise[j];
    return;
  }
  const bool large = config_.variance == fb::VarianceKind::FixedLarge;
  mix(sample, 1, noise, std::sqrt(large ? beta : small));
}

void Scheduler::ddim_step(int i, std::span<float> sample, std::span<const float> prediction) {
  const auto t = static_cast<int64_t>(timestep(i));
  const int64_t to = t - config_.train_steps / steps();
  const double now = alpha_bar(t);
  const double next = to >= 0 ? alpha_bar(to) : (config_.last_alpha_is_one ? 1.0 : alpha_bar(0));
  const std::span<float> clean = history_.back();
  predict_clean(config_.prediction, std::sqrt(now), std::sqrt(1 - now), sample, prediction, clean);
  const auto a = static_cast<float>(std::sqrt(now)), s = static_cast<float>(std::sqrt(1 - now));
  const auto a_next = static_cast<float>(std::sqrt(next)), s_next = static_cast<float>(std::sqrt(1 - next));
  for (size_t j = 0; j < sample.size(); ++j) {
    // The noise is that of the unclipped prediction.
    float epsilon = prediction[j];
    if (config_.prediction == fb::Prediction::Sample) epsilon = (sample[j] - a * clean[j]) / s;
    if (config_.prediction == fb::Prediction::Velocity) epsilon = a * prediction[j] + s * sample[j];
    if (config_.clip_range > 0) clean[j] = std::clamp(clean[j], -config_.clip_range, config_.clip_range);
    sample[j] = a_next * clean[j] + s_next * epsilon;
  }
}

void Scheduler::flow_euler_step(int i, std::span<float> sample, std::span<const float> prediction,
                                std::span<const float> noise) {
  const double now = sigmas_[static_cast<size_t>(i)], next = sigmas_[static_cast<size_t>(i) + 1];
  const std::span<float> clean = history_.back();
  predict_clean(fb::Prediction::Flow, 1 - now, now, sample, prediction, clean);
  if (!config_.stochastic) return mix(sample, 1, prediction, next - now);
  for (size_t j = 0; j < sample.size(); ++j)
    sample[j] = static_cast<float>(1 - next) * clean[j] + static_cast<float>(next) * noise[j];
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
// clean sample and D1, D2 are differences of the history.
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

void Scheduler::solver_step(int i, std::span<float> sample, std::span<const float> prediction,
                            std::span<const float> noise) {
  std::rotate(history_.begin(), history_.begin() + 1, history_.end());
  const Level now = level(static_cast<size_t>(i));
  predict_clean(config_.prediction, now.alpha, now.sigma, sample, prediction, history_.back());
  const int order = order_at(i);
  const Coefficients c = solver(i, order);
  const double h = level(static_cast<size_t>(i) + 1).lambda - now.lambda;
  double r0 = 1, r1 = 1;
  const float *m0 = history_.back().data(), *m1 = m0, *m2 = m0;
  if (order >= 2) {
    r0 = (now.lambda - level(static_cast<size_t>(i) - 1).lambda) / h;
    m1 = history_[history_.size() - 2].data();
  }
  if (order == 3) {
    r1 = (level(static_cast<size_t>(i) - 1).lambda - level(static_cast<size_t>(i) - 2).lambda) / h;
    m2 = history_[history_.size() - 3].data();
  }
  for (size_t j = 0; j < sample.size(); ++j) {
    double x = c.sample * sample[j] + c.d0 * m0[j];
    if (order >= 2) {
      double d1 = (m0[j] - m1[j]) / r0;
      if (order == 3) {
        const double older = (m1[j] - m2[j]) / r1;
        x += c.d2 * (d1 - older) / (r0 + r1);
        d1 += r0 / (r0 + r1) * (d1 - older);
      }
      x += c.d1 * d1;
    }
    if (config_.stochastic) x += c.noise * noise[j];
    sample[j] = static_cast<float>(x);
  }
}

float Scheduler::trig_input(int i, std::span<const float> sample, std::span<float> input) const {
  const double t = timestep(i), s = std::sin(t) / (std::cos(t) + std::sin(t));
  const auto scale = static_cast<float>(std::sqrt(s * s + (1 - s) * (1 - s)) / config_.sigma_data);
  for (size_t j = 0; j < sample.size(); ++j) input[j] = sample[j] * scale;
  return static_cast<float>(s);
}

void Scheduler::trig_output(int i, std::span<const float> input, std::span<float> answer) const {
  const double t = timestep(i), s = std::sin(t) / (std::cos(t) + std::sin(t));
  const double root = std::sqrt(s * s + (1 - s) * (1 - s)), data = config_.sigma_data;
  mix(answer, (1 - 2 * s + 2 * s * s) / root * data, input, (1 - 2 * s) / root * data);
}

void Scheduler::trig_step(int i, std::span<float> sample, std::span<const float> prediction,
                          std::span<const float> noise) {
  const double now = sigmas_[static_cast<size_t>(i)], next = sigmas_[static_cast<size_t>(i) + 1];
  const std::span<float> clean = history_.back();
  for (size_t j = 0; j < sample.size(); ++j)
    clean[j] = static_cast<float>(std::cos(now) * sample[j] - std::sin(now) * prediction[j]);
  const auto keep = static_cast<float>(std::cos(next));
  const auto fresh = static_cast<float>(std::sin(next) * config_.sigma_data);
  for (size_t j = 0; j < sample.size(); ++j)
    sample[j] = keep * clean[j] + (noise.empty() ? 0.0f : fresh * noise[j]);
}

}  // namespace linnet::image
