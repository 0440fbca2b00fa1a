#include "converter/image/scheduler_import.h"

#include <map>
#include <optional>

#include "converter/readers/json.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Reads values and remembers the first that is of a wrong type or not supported.
class Reader {
 public:
  Reader(const Json& config, const std::string& what) : config_(config), what_(what) {}

  double number(const char* key, double absent) {
    const Json* value = find(key);
    if (!value) return absent;
    if (const auto found = number_of(*value, true)) return std::clamp(*found, -1e30, 1e30);
    // Some versions of diffusers write its text.
    if (is_text(*value, "-inf") || is_text(*value, "-Infinity")) return -1e30;
    refuse(key, "a number");
    return absent;
  }
  bool flag(const char* key, bool absent) {
    const Json* value = find(key);
    if (!value) return absent;
    if (value->is_boolean()) return value->get<bool>();
    refuse(key, "true or false");
    return absent;
  }
  template <typename T>
  T choice(const char* key, const char* absent, const std::map<std::string, T>& choices) {
    const Json* value = find(key);
    const std::string text = !value               ? absent
                             : value->is_string() ? value->get<std::string>()
                                                  : json_text(*value);
    if (const auto it = choices.find(text); it != choices.end()) return it->second;
    std::string expected;
    for (const auto& [name, ignored] : choices) expected += (expected.empty() ? "" : ", ") + name;
    refuse(key, expected.c_str());
    return choices.begin()->second;
  }
  void expect(const char* key, const Json& supported) {
    const Json* value = find(key);
    if (value && *value != supported) refuse(key, json_text(supported).c_str());
  }
  const Json* find(const char* key) const {
    const auto it = config_.find(key);
    return it == config_.end() || it->is_null() ? nullptr : &*it;
  }
  void refuse(const char* key, const char* supported) {
    if (!error_)
      error_ = Error{ErrorCode::kUnsupported,
                     strf("'{}': '{}' is {}; Linnet supports {}", what_, key,
                          config_.contains(key) ? json_text(config_[key]) : "absent", supported)};
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const Json& config_;
  const std::string& what_;
  std::optional<Error> error_;
};

const std::map<std::string, fb::Prediction> kPredictions = {{"epsilon", fb::Prediction::Epsilon},
                                                            {"sample", fb::Prediction::Sample},
                                                            {"v_prediction", fb::Prediction::Velocity}};

void read_betas(Reader& in, fb::SchedulerT& s) {
  s.beta_start = static_cast<float>(in.number("beta_start", 1e-4));
  s.beta_end = static_cast<float>(in.number("beta_end", 2e-2));
  s.beta_schedule = in.choice<fb::BetaSchedule>("beta_schedule", "linear",
                                                {{"linear", fb::BetaSchedule::Linear},
                                                 {"scaled_linear", fb::BetaSchedule::ScaledLinear},
                                                 {"squaredcos_cap_v2", fb::BetaSchedule::SquaredCosine},
                                                 {"sigmoid", fb::BetaSchedule::Sigmoid}});
  s.zero_terminal_snr = in.flag("rescale_betas_zero_snr", false);
  s.steps_offset = static_cast<int>(in.number("steps_offset", 0));
  in.expect("thresholding", false);
  if (const Json* betas = in.find("trained_betas")) {
    s.beta_schedule = fb::BetaSchedule::Trained;
    if (!betas->is_array()) return in.refuse("trained_betas", "a list of numbers");
    for (const Json& b : *betas) {
      const auto beta = number_of(b);
      if (!beta) return in.refuse("trained_betas", "a list of numbers");
      s.trained_betas.push_back(static_cast<float>(*beta));
    }
  }
}

fb::TimestepSpacing read_spacing(Reader& in, const char* absent) {
  return in.choice<fb::TimestepSpacing>("timestep_spacing", absent,
                                        {{"linspace", fb::TimestepSpacing::Linspace},
                                         {"leading", fb::TimestepSpacing::Leading},
                                         {"trailing", fb::TimestepSpacing::Trailing}});
}

void read_ddpm(Reader& in, fb::SchedulerT& s) {
  s.kind = fb::SchedulerKind::Ddpm;
  read_betas(in, s);
  s.prediction = in.choice("prediction_type", "epsilon", kPredictions);
  s.spacing = read_spacing(in, "leading");
  s.clip_range = in.flag("clip_sample", true) ? static_cast<float>(in.number("clip_sample_range", 1)) : 0;
  s.variance = in.choice<fb::VarianceKind>("variance_type", "fixed_small",
                                           {{"fixed_small", fb::VarianceKind::FixedSmall},
                                            {"fixed_small_log", fb::VarianceKind::FixedSmallLog},
                                            {"fixed_large", fb::VarianceKind::FixedLarge},
                                            {"learned", fb::VarianceKind::Learned},
                                            {"learned_range", fb::VarianceKind::LearnedRange}});
}

void read_ddim(Reader& in, fb::SchedulerT& s) {
  s.kind = fb::SchedulerKind::Ddim;
  read_betas(in, s);
  s.prediction = in.choice("prediction_type", "epsilon", kPredictions);
  s.spacing = read_spacing(in, "leading");
  s.clip_range = in.flag("clip_sample", true) ? static_cast<float>(in.number("clip_sample_range", 1)) : 0;
  s.last_alpha_is_one = in.flag("set_alpha_to_one", true);
}

void read_dpm_solver(Reader& in, fb::SchedulerT& s) {
  s.kind = fb::SchedulerKind::DpmSolver;
  read_betas(in, s);
  auto predictions = kPredictions;
  predictions["flow_prediction"] = fb::Prediction::Flow;
  s.prediction = in.choice("prediction_type", "epsilon", predictions);
  s.spacing = read_spacing(in, "linspace");
  s.solver_order = static_cast<int>(in.number("solver_order", 2));
  if (s.solver_order < 1 || s.solver_order > 3) in.refuse("solver_order", "1 to 3");
  s.stochastic = in.choice<bool>("algorithm_type", "dpmsolver++",
                                 {{"dpmsolver++", false}, {"deis", false}, {"sde-dpmsolver++", true}});
  s.heun = in.choice<bool>(
      "solver_type", "midpoint",
      {{"midpoint", false}, {"heun", true}, {"logrho", false}, {"bh1", false}, {"bh2", false}});
  s.lower_order_final = in.flag("lower_order_final", true);
  s.euler_at_final = in.flag("euler_at_final", false);
  s.last_sigma_is_least =
      in.choice<bool>("final_sigmas_type", "zero", {{"zero", false}, {"sigma_min", true}});
  s.lambda_min = static_cast<float>(std::max(in.number("lambda_min_clipped", -1e30), -1e30));
  s.flow_shift = static_cast<float>(in.number("flow_shift", 1));
  in.expect("use_beta_sigmas", false);
  in.expect("use_dynamic_shifting", false);
  const std::pair<const char*, fb::SigmaSchedule> schedules[] = {
      {"use_karras_sigmas", fb::SigmaSchedule::Karras},
      {"use_lu_lambdas", fb::SigmaSchedule::Lu},
      {"use_exponential_sigmas", fb::SigmaSchedule::Exponential},
      {"use_flow_sigmas", fb::SigmaSchedule::Flow}};
  for (const auto& [key, schedule] : schedules)
    if (in.flag(key, false) && s.sigmas == fb::SigmaSchedule::FromTimesteps) s.sigmas = schedule;
  const bool flow = s.sigmas == fb::SigmaSchedule::Flow;
  if ((s.prediction == fb::Prediction::Flow) != flow)
    in.refuse("prediction_type",
              flow ? "flow_prediction with use_flow_sigmas" : "flow_prediction only with use_flow_sigmas");
}

void read_flow_euler(Reader& in, fb::SchedulerT& s) {
  s.kind = fb::SchedulerKind::FlowEuler;
  s.prediction = fb::Prediction::Flow;
  s.flow_shift = static_cast<float>(in.number("shift", 1));
  s.shift_terminal = static_cast<float>(in.number("shift_terminal", 0));
  s.stochastic = in.flag("stochastic_sampling", false);
  s.sigmas = in.flag("use_karras_sigmas", false)        ? fb::SigmaSchedule::Karras
             : in.flag("use_exponential_sigmas", false) ? fb::SigmaSchedule::Exponential
                                                        : fb::SigmaSchedule::FromTimesteps;
  in.expect("use_beta_sigmas", false);
  in.expect("use_dynamic_shifting", false);
  in.expect("invert_sigmas", false);
}

void read_scm(Reader& in, fb::SchedulerT& s) {
  s.kind = fb::SchedulerKind::Scm;
  s.prediction = fb::Prediction::TrigFlow;
  s.sigma_data = static_cast<float>(in.number("sigma_data", 0.5));
  in.expect("prediction_type", "trigflow");
}

}  // namespace

Result<fb::SchedulerT> import_scheduler(const Json& config, const std::string& what) {
  static const std::map<std::string, void (*)(Reader&, fb::SchedulerT&)> kReaders = {
      {"DDPMScheduler", read_ddpm},
      {"DDIMScheduler", read_ddim},
      {"DPMSolverMultistepScheduler", read_dpm_solver},
      {"FlowMatchEulerDiscreteScheduler", read_flow_euler},
      {"SCMScheduler", read_scm}};
  const std::string name =
      config.is_object() && config.contains("_class_name") && config["_class_name"].is_string()
          ? config["_class_name"].get<std::string>()
          : "(no _class_name)";
  const auto reader = kReaders.find(name);
  if (reader == kReaders.end()) {
    std::string known;
    for (const auto& [key, ignored] : kReaders) known += (known.empty() ? "" : ", ") + key;
    return fail(ErrorCode::kUnsupported,
                strf("'{}' is a {}, which Linnet does not have. It has: {}", what, name, known));
  }
  Reader in(config, what);
  fb::SchedulerT scheduler;
  const double steps = in.number("num_train_timesteps", 1000);
  if (!(steps >= 2 && steps <= 100000)) in.refuse("num_train_timesteps", "2 to 100000");
  scheduler.train_steps = static_cast<int>(std::min(std::max(steps, 2.0), 1e5));
  reader->second(in, scheduler);
  if (in.error()) return std::unexpected(*in.error());
  return scheduler;
}

}  // namespace linnet::convert
