// Noise levels and timesteps of the samplers. Rounding follows diffusers, which keeps betas and their
// products in f32: a table in f64 would differ in the fifth digit after 1000 steps.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/core/strings.h"
#include "runtime/image/scheduler.h"

namespace linnet::image {
namespace {

std::vector<double> linspace(double first, double last, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = first + step * static_cast<double>(i);
  if (count > 1) values.back() = last;
  return values;
}

// In f32 from both ends, as PyTorch counts.
std::vector<float> linspace_f32(float first, float last, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  const float step = count > 1 ? (last - first) / static_cast<float>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i)
    values[static_cast<size_t>(i)] = i < count / 2 ? first + step * static_cast<float>(i)
                                                   : last - step * static_cast<float>(count - 1 - i);
  return values;
}

// Half to even, as numpy rounds.
int64_t rounded(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

double squared_cosine(double t) {
  const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
  return c * c;
}

}  // namespace

Result<void> Scheduler::make_betas() {
  const int64_t n = config_.train_steps;
  std::vector<float> betas;
  switch (config_.beta_schedule) {
    case fb::BetaSchedule::Linear:
      betas = linspace_f32(config_.beta_start, config_.beta_end, n);
      break;
    case fb::BetaSchedule::ScaledLinear:
      betas = linspace_f32(static_cast<float>(std::sqrt(static_cast<double>(config_.beta_start))),
                           static_cast<float>(std::sqrt(static_cast<double>(config_.beta_end))), n);
      for (float& b : betas) b *= b;
      break;
    case fb::BetaSchedule::SquaredCosine:
      for (int64_t i = 0; i < n; ++i) {
        const double t1 = static_cast<double>(i) / static_cast<double>(n);
        const double t2 = static_cast<double>(i + 1) / static_cast<double>(n);
        betas.push_back(static_cast<float>(std::min(1 - squared_cosine(t2) / squared_cosine(t1), 0.999)));
      }
      break;
    case fb::BetaSchedule::Sigmoid:
      for (const float x : linspace_f32(-6, 6, n))
        betas.push_back(1.0f / (1.0f + std::exp(-x)) * (config_.beta_end - config_.beta_start) +
                        config_.beta_start);
      break;
    case fb::BetaSchedule::Trained:
      betas = config_.trained_betas;
      break;
  }
  if (static_cast<int64_t>(betas.size()) != n)
    return fail(ErrorCode::kInvalidFile,
                strf("the scheduler has {} betas for {} training steps", betas.size(), n));
  alpha_bar_.resize(betas.size());
  double product = 1;
  for (size_t i = 0; i < betas.size(); ++i) {
    product *= static_cast<double>(1.0f - betas[i]);
    alpha_bar_[i] = static_cast<float>(product);
  }
  if (!config_.zero_terminal_snr) return {};
  const float first = std::sqrt(alpha_bar_.front()), last = std::sqrt(alpha_bar_.back());
  for (float& a : alpha_bar_) {
    const float root = (std::sqrt(a) - last) * (first / (first - last));
    a = root * root;
  }
  // Solvers need a finite first sigma.
  if (config_.kind == fb::SchedulerKind::DpmSolver) alpha_bar_.back() = 0x1p-24f;
  return {};
}

// DDPM and DDIM.
Result<void> Scheduler::make_timesteps(int steps) {
  const int64_t n = config_.train_steps;
  std::vector<int64_t> t;
  switch (config_.spacing) {
    case fb::TimestepSpacing::Linspace:
      for (const double x : linspace(0, static_cast<double>(n - 1), steps)) t.push_back(rounded(x));
      std::reverse(t.begin(), t.end());
      break;
    case fb::TimestepSpacing::Leading:
      for (int64_t i = steps - 1; i >= 0; --i) t.push_back(i * (n / steps) + config_.steps_offset);
      break;
    case fb::TimestepSpacing::Trailing: {
      const double ratio = static_cast<double>(n) / steps;
      for (int64_t i = 0; i < steps; ++i)
        t.push_back(rounded(static_cast<double>(n) - static_cast<double>(i) * ratio) - 1);
      break;
    }
  }
  for (const int64_t x : t) {
    if (x < 0 || x >= n)
      return fail(ErrorCode::kInvalidArgument,
                  strf("{} steps reach timestep {}, the model was trained for 0 to {}", steps, x, n - 1));
    timesteps_.push_back(static_cast<float>(x));
  }
  return {};
}

// The training's noise levels, unevenly thinned out. `training`: sigmas from the least to the largest.
std::vector<double> Scheduler::respaced(int steps, const std::vector<double>& training) const {
  const double least = training.front(), largest = training.back();
  std::vector<double> sigmas;
  for (const double ramp : linspace(0, 1, steps)) {
    switch (config_.sigmas) {
      case fb::SigmaSchedule::Karras: {
        constexpr double kRho = 7;
        const double a = std::pow(largest, 1 / kRho), b = std::pow(least, 1 / kRho);
        sigmas.push_back(std::pow(a + ramp * (b - a), kRho));
        break;
      }
      default:  // evenly in the logarithm; Lu's rho is 1, which is the same
        sigmas.push_back(std::exp(std::log(largest) + ramp * (std::log(least) - std::log(largest))));
    }
  }
  return sigmas;
}

double Scheduler::timestep_of(double sigma, const std::vector<double>& training) const {
  const double x = std::log(std::max(sigma, 1e-10));
  size_t low = 0;
  for (size_t i = 0; i < training.size(); ++i)
    if (std::log(training[i]) <= x) low = i;
  low = std::min(low, training.size() - 2);
  const double a = std::log(training[low]), b = std::log(training[low + 1]);
  const double w = std::clamp((a - x) / (a - b), 0.0, 1.0);
  return (1 - w) * static_cast<double>(low) + w * static_cast<double>(low + 1);
}

Result<void> Scheduler::make_solver_schedule(int steps) {
  std::vector<double> sigmas, times;
  if (config_.sigmas == fb::SigmaSchedule::Flow) {
    const double shift = config_.flow_shift;
    const auto alphas = linspace(1, 1.0 / config_.train_steps, steps + 1);
    for (size_t i = alphas.size() - 1; i > 0; --i) {
      const double s = 1 - alphas[i];
      sigmas.push_back(shift * s / (1 + (shift - 1) * s));
      times.push_back(std::trunc(sigmas.back() * config_.train_steps));
    }
  } else {
    std::vector<double> training;
    for (const float a : alpha_bar_) training.push_back(static_cast<double>(std::sqrt((1.0f - a) / a)));
    if (config_.sigmas != fb::SigmaSchedule::FromTimesteps) {
      sigmas = respaced(steps, training);
      const bool whole = config_.beta_schedule != fb::BetaSchedule::SquaredCosine &&
                         config_.sigmas != fb::SigmaSchedule::Exponential;
      for (const double s : sigmas) {
        const double t = timestep_of(s, training);
        times.push_back(whole ? std::nearbyint(t) : std::trunc(t));
      }
    } else {
      int64_t last = config_.train_steps;
      while (last > 1 && -std::log(training[static_cast<size_t>(last - 1)]) < config_.lambda_min) --last;
      std::vector<int64_t> t;
      if (config_.spacing == fb::TimestepSpacing::Linspace) {
        for (const double x : linspace(0, static_cast<double>(last - 1), steps + 1)) t.push_back(rounded(x));
        std::reverse(t.begin(), t.end());
        t.pop_back();
      } else if (config_.spacing == fb::TimestepSpacing::Leading) {
        for (int64_t i = steps; i > 0; --i) t.push_back(i * (last / (steps + 1)) + config_.steps_offset);
      } else {
        const double ratio = static_cast<double>(config_.train_steps) / steps;
        for (int64_t i = 0; static_cast<double>(last) - static_cast<double>(i) * ratio > 1e-9; ++i)
          t.push_back(rounded(static_cast<double>(last) - static_cast<double>(i) * ratio) - 1);
      }
      for (const int64_t x : t) {
        if (x < 0 || x >= config_.train_steps)
          return fail(ErrorCode::kInvalidArgument,
                      strf("{} steps reach timestep {}, the model was trained for 0 to {}", steps, x,
                           config_.train_steps - 1));
        times.push_back(static_cast<double>(x));
        sigmas.push_back(training[static_cast<size_t>(x)]);
      }
    }
  }
  for (const double t : times) timesteps_.push_back(static_cast<float>(t));
  for (const double s : sigmas) sigmas_.push_back(static_cast<float>(s));
  const float a = alpha_bar_.front();
  sigmas_.push_back(config_.last_sigma_is_least ? std::sqrt((1 - a) / a) : 0.0f);
  return {};
}

void Scheduler::make_flow_schedule(int steps) {
  const double shift = config_.flow_shift;
  const auto shifted = [shift](double s) { return shift * s / (1 + (shift - 1) * s); };
  // The ends are shifted when the scheduler is made and once more with the rest: so the models were
  // published.
  const auto base =
      linspace(static_cast<float>(shifted(1)), static_cast<float>(shifted(1.0 / config_.train_steps)), steps);
  std::vector<double> sigmas;
  for (const double s : base) sigmas.push_back(shifted(s));
  if (config_.shift_terminal > 0) {
    const double scale = (1 - sigmas.back()) / (1 - config_.shift_terminal);
    for (double& s : sigmas) s = 1 - (1 - s) / scale;
  }
  if (config_.sigmas != fb::SigmaSchedule::FromTimesteps && config_.sigmas != fb::SigmaSchedule::Flow)
    sigmas = respaced(steps, {sigmas.rbegin(), sigmas.rend()});
  for (const double s : sigmas) {
    sigmas_.push_back(static_cast<float>(s));
    timesteps_.push_back(sigmas_.back() * static_cast<float>(config_.train_steps));
  }
  sigmas_.push_back(0);
}

void Scheduler::make_trig_schedule(int steps) {
  constexpr float kLargest = 1.57080f, kBetween = 1.3f;
  // One more than steps: the last angle is 0, where the trajectory ends.
  sigmas_ = steps == 2 ? std::vector<float>{kLargest, kBetween, 0} : linspace_f32(kLargest, 0, steps + 1);
  timesteps_.assign(sigmas_.begin(), sigmas_.end() - 1);
}

}  // namespace linnet::image
