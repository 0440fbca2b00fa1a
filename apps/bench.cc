// linnet bench: how fast this machine runs a language model, beside what its memory and its arithmetic could
// give, all measured in one process and in turn: on shared machines figures move from minute to minute, their
// ratios hardly.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "apps/bandwidth.h"
#include "apps/bounds_options.h"
#include "apps/common.h"
#include "apps/energy.h"
#include "apps/model_info.h"
#include "apps/roofline.h"
#include "backends/registry/registry.h"
#include "format/names.h"
#include "linnet/session.h"
#include "runtime/core/strings.h"
#include "runtime/engine/device_meter.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct BenchArguments {
  std::string path;
  int64_t prompt_tokens = 512, decode_tokens = 64, depth = 0;
  int repeats = 5;
  double minutes = 0;
  uint64_t seed = 1;
  bool json = false, profile = false;
  BoundsOptions bounds;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? 0 : n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
double best(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

struct Rounds {
  std::vector<double> prefill, decode, bandwidth, decode_gbps, percent, int8_peak, f32_peak, prefill_gops,
      arithmetic_percent, joules;
};

// A stretch of the sustained decode.
struct Stretch {
  double seconds, rate;  // since its beginning; tokens per second
};

struct Bench {
  std::unique_ptr<Session> session;
  Rounds rounds;
  uint64_t weight_bytes = 0, state_bytes = 0;  // read for one token, at the middle of the decode
  MatrixWork work;                             // of one token of the prefill
  std::vector<Stretch> sustained;
  Json device;   // what a decoded token costs a GPU; null on other backends
  Json profile;  // --profile: microseconds of each node, of a prefill and of a decoded token
};

struct Probes {
  BandwidthProbe bandwidth;
  std::optional<ArithmeticProbe> arithmetic;  // the CPU backend's
  EnergyMeter energy;
};

// Decodes without a pause: a machine that heats up or runs out of its boost shows it.
Result<void> sustain(const BenchArguments& options, Bench& bench, std::span<const int32_t> answer,
                     std::span<const std::byte> start, ProgressBar& bar) {
  constexpr int kStretches = 30;
  const double total = options.minutes * 60;
  const auto begin = Clock::now();
  for (int i = 0; i < kStretches; ++i) {
    bar.show("sustained", static_cast<uint64_t>(i), kStretches);
    const auto from = Clock::now();
    int64_t tokens = 0;
    do {
      LINNET_TRY(bench.session->restore(start));
      for (const int32_t token : answer) {
        LINNET_TRY(bench.session->decode(token));
        if (interrupted()) return fail(ErrorCode::kCancelled, "stopped");
      }
      tokens += static_cast<int64_t>(answer.size());
    } while (seconds_since(begin) < total * (i + 1) / kStretches);
    bench.sustained.push_back({seconds_since(begin), static_cast<double>(tokens) / seconds_since(from)});
  }
  return {};
}

// Runs one more round of the decode and counts: for the likeliest token, as temperature 0 asks for it, and
// for all logits.
Result<void> count_on_device(Bench& bench, const Backend& backend, std::span<const std::byte> start,
                             std::span<const int32_t> answer) {
  const DeviceMeter* meter = backend.meter();
  if (!meter || answer.empty()) return {};
  LINNET_TRY(bench.session->restore(start));
  const DeviceCounts before = meter->counts();
  for (const int32_t token : answer) LINNET_TRY(bench.session->decode_largest(token, 1));
  const DeviceCounts after = meter->counts();
  for (const int32_t token : answer) LINNET_TRY(bench.session->decode(token));
  const DeviceCounts whole = meter->counts();
  const auto tokens = static_cast<double>(answer.size());
  const auto each = [&](uint64_t DeviceCounts::*what) {
    return static_cast<double>(after.*what - before.*what) / tokens;
  };
  bench.device = {{"name", meter->device_name()},
                  {"dispatches_per_token", each(&DeviceCounts::dispatches)},
                  {"barriers_per_token", each(&DeviceCounts::barriers)},
                  {"submits_per_token", each(&DeviceCounts::submits)},
                  {"weight_bytes_per_token", each(&DeviceCounts::weight_bytes)},
                  {"read_bytes_per_token", each(&DeviceCounts::read_bytes)},
                  {"read_bytes_per_token_with_all_logits",
                   static_cast<double>(whole.read_bytes - after.read_bytes) / tokens},
                  {"device_bytes", after.device_bytes}};
  return {};
}

// A session of its own, so that the clocks do not disturb what is measured.
Result<void> profile_nodes(const BenchArguments& options, Bench& bench) {
  LINNET_ASSIGN(const std::shared_ptr<const Backend> backend, find_backend(options.bounds, true));
  const DeviceMeter* meter = backend->meter();
  if (!meter)
    return fail(ErrorCode::kUnsupported,
                strf("the backend '{}' measures no nodes: leave --profile out", options.bounds.backend));
  LINNET_ASSIGN(std::shared_ptr<const Model> model, Model::open(options.path));
  LINNET_ASSIGN(const std::unique_ptr<Session> session,
                Session::create(std::move(model), *backend, session_options(options.bounds)));
  const auto id = [&](int64_t i) {
    return static_cast<int32_t>((i * 7919 + 13) % session->model().vocabulary());
  };
  // Everything once before it counts: drivers compile late.
  std::vector<DeviceNodeTime> before;
  const auto since = [&](double runs) {
    const std::vector<DeviceNodeTime> now = meter->profile();
    Json nodes = Json::array();
    for (size_t i = 0; i < now.size(); ++i)
      nodes.push_back(
          {{"node", now[i].node},
           {"op", now[i].op},
           {"microseconds", 1e6 * (now[i].seconds - (i < before.size() ? before[i].seconds : 0)) / runs}});
    before = now;
    return nodes;
  };
  std::vector<int32_t> prompt(static_cast<size_t>(std::max<int64_t>(options.prompt_tokens, 1)));
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = id(static_cast<int64_t>(i));
  LINNET_TRY(session->prefill(prompt));
  LINNET_TRY(session->reset());
  since(1);
  LINNET_TRY(session->prefill(prompt));
  bench.profile["prefill"] = since(1);
  LINNET_TRY(session->decode(id(1)));
  since(1);
  const int64_t tokens = std::max<int64_t>(options.decode_tokens, 1);
  for (int64_t i = 0; i < tokens; ++i) LINNET_TRY(session->decode(id(i)));
  bench.profile["decode"] = since(static_cast<double>(tokens));
  if (before.empty())
    return fail(ErrorCode::kUnsupported, "the queue of this device has no clock: leave --profile out");
  return {};
}

void print_profile(const Json& profile) {
  for (const auto& [what, nodes] : profile.items()) {
    double all = 0;
    std::vector<std::pair<std::string, double>> ops;
    for (const Json& node : nodes) {
      const auto op = node["op"].get<std::string>();
      const double time = node["microseconds"].get<double>();
      auto found = std::ranges::find(ops, op, &std::pair<std::string, double>::first);
      if (found == ops.end()) found = ops.insert(ops.end(), {op, 0});
      found->second += time;
      all += time;
    }
    std::ranges::sort(ops, std::greater(), &std::pair<std::string, double>::second);
    std::printf("%s on the device: %.0f us\n", what == "decode" ? "a decoded token" : "the prefill", all);
    for (const auto& [op, time] : ops)
      std::printf("  %5.1f%%  %10.0f us  %s\n", all > 0 ? 100 * time / all : 0, time, op.c_str());
  }
}

Result<void> measure(const BenchArguments& options, Bench& bench, const Backend& backend, Probes& probes,
                     ProgressBar& bar) {
  Session& session = *bench.session;
  std::mt19937_64 random(options.seed);
  const auto random_ids = [&](int64_t n) {
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % static_cast<uint64_t>(session.model().vocabulary()));
    return ids;
  };
  const auto go_on = [](int64_t, int64_t) { return !interrupted(); };
  const auto depth = random_ids(options.depth), prompt = random_ids(options.prompt_tokens),
             answer = random_ids(options.decode_tokens);
  if (!depth.empty()) LINNET_TRY(session.prefill(depth, go_on));
  std::vector<std::byte> start(session.state_bytes());
  LINNET_TRY(session.snapshot(start));

  const int method = graph::find_method(session.engine().model(), names::kForward);
  const TokenTraffic traffic =
      token_traffic(session.engine(), static_cast<size_t>(method), options.depth + options.decode_tokens / 2);
  bench.weight_bytes = traffic.weight_bytes;
  bench.state_bytes = traffic.state_bytes;
  bench.work = matrix_work(session.engine().model(), static_cast<size_t>(method));
  const double gigabytes = static_cast<double>(traffic.weight_bytes + traffic.state_bytes) / 1e9;

  const int steps = options.repeats + 1;
  for (int round = 0; round < steps; ++round) {
    bar.show("measuring", static_cast<uint64_t>(round), static_cast<uint64_t>(steps));
    // The first round only warms caches, page tables and clocks.
    const bool counts = round > 0;
    const double bandwidth = probes.bandwidth.measure();
    const Peaks peaks = probes.arithmetic ? probes.arithmetic->measure() : Peaks{};
    double prefill_rate = 0, decode_rate = 0, joules = 0;
    if (!prompt.empty()) {
      LINNET_TRY(session.restore(start));
      const auto begin = Clock::now();
      LINNET_TRY(session.prefill(prompt, go_on));
      prefill_rate = static_cast<double>(prompt.size()) / seconds_since(begin);
    }
    if (!answer.empty()) {
      LINNET_TRY(session.restore(start));
      probes.energy.joules();
      const auto begin = Clock::now();
      for (const int32_t token : answer) {
        LINNET_TRY(session.decode(token));
        if (interrupted()) return fail(ErrorCode::kCancelled, "stopped");
      }
      decode_rate = static_cast<double>(answer.size()) / seconds_since(begin);
      joules = probes.energy.joules() / static_cast<double>(answer.size());
    }
    if (!counts) continue;
    Rounds& r = bench.rounds;
    r.bandwidth.push_back(bandwidth);
    if (peaks.f32 > 0) {
      r.int8_peak.push_back(peaks.int8 / 1e9);
      r.f32_peak.push_back(peaks.f32 / 1e9);
    }
    if (!prompt.empty()) {
      r.prefill.push_back(prefill_rate);
      r.prefill_gops.push_back(prefill_rate * (bench.work.int8 + bench.work.f32) / 1e9);
      // The time that the matrices would take at the peaks, as a share of the time that all took.
      if (peaks.f32 > 0)
        r.arithmetic_percent.push_back(100 * prefill_rate *
                                       (bench.work.int8 / peaks.int8 + bench.work.f32 / peaks.f32));
    }
    if (!answer.empty()) {
      r.decode.push_back(decode_rate);
      r.decode_gbps.push_back(decode_rate * gigabytes);
      r.percent.push_back(100 * decode_rate * gigabytes / bandwidth);
      if (probes.energy.available()) r.joules.push_back(joules);
    }
  }
  LINNET_TRY(count_on_device(bench, backend, start, answer));
  if (options.profile) LINNET_TRY(profile_nodes(options, bench));
  return options.minutes > 0 && !answer.empty() ? sustain(options, bench, answer, start, bar)
                                                : Result<void>{};
}

Json report(const BenchArguments& options, const Bench& bench) {
  const SessionMemory memory = bench.session->memory();
  Json out = {{"model", options.path},
              {"backend", options.bounds.backend},
              {"threads", options.bounds.threads},
              {"attention", options.bounds.attention},
              {"cache", options.bounds.cache},
              {"state_type", options.bounds.state_type},
              {"chunk", options.bounds.chunk},
              {"prompt_tokens", options.prompt_tokens},
              {"decode_tokens", options.decode_tokens},
              {"depth", options.depth},
              {"repeats", options.repeats}};
  Json rounds = Json::object();
  const auto put = [&](const std::string& key, const std::vector<double>& values) {
    out[key] = median(values);
    out[key + "_best"] = best(values);
    rounds[key] = values;
  };
  const Rounds& r = bench.rounds;
  put("prefill_tokens_per_second", r.prefill);
  put("prefill_gops", r.prefill_gops);
  put("int8_peak_gops", r.int8_peak);
  put("f32_peak_gops", r.f32_peak);
  put("prefill_arithmetic_percent", r.arithmetic_percent);
  put("decode_tokens_per_second", r.decode);
  put("read_bandwidth_gbps", r.bandwidth);
  put("decode_gbps", r.decode_gbps);
  put("decode_bandwidth_percent", r.percent);
  put("decode_joules_per_token", r.joules);
  if (r.joules.empty()) out["decode_joules_per_token"] = nullptr;
  if (!bench.sustained.empty()) {
    Json stretches = Json::array();
    for (const Stretch& s : bench.sustained)
      stretches.push_back({{"seconds", s.seconds}, {"decode_tokens_per_second", s.rate}});
    out["sustained"] = std::move(stretches);
  }
  out["weight_bytes_per_token"] = bench.weight_bytes;
  out["state_bytes_per_token"] = bench.state_bytes;
  out["weights_bytes"] = memory.weights_bytes;
  out["state_bytes"] = memory.state_bytes;
  out["work_bytes"] = memory.work_bytes;
  out["rounds"] = std::move(rounds);
  if (!bench.device.is_null()) out["device"] = bench.device;
  if (!bench.profile.is_null()) out["profile"] = bench.profile;
  return out;
}

void print_figures(const Json& out) {
  std::printf("%s, %s, threads: %s, median of %s rounds (minimum, best)\n",
              text::printable_line(out["model"].get<std::string>()).c_str(),
              out["backend"].get<std::string>().c_str(), out["threads"].dump().c_str(),
              out["repeats"].dump().c_str());
  const auto line = [&](const char* what, const char* key, const char* unit) {
    const auto values = out["rounds"][key].get<std::vector<double>>();
    if (values.empty()) return;
    std::printf("%-34s %10.1f %-9s (%.1f, %.1f)\n", what, median(values), unit,
                *std::min_element(values.begin(), values.end()), best(values));
  };
  const auto tokens = [&](const char* key) { return out[key].dump(); };
  line(strf("prefill of {} tokens", tokens("prompt_tokens")).c_str(), "prefill_tokens_per_second",
       "tokens/s");
  line(strf("decode of {} tokens at depth {}", tokens("decode_tokens"), tokens("depth")).c_str(),
       "decode_tokens_per_second", "tokens/s");
  line("bytes read by the decode", "decode_gbps", "GB/s");
  line("read bandwidth of the memory", "read_bandwidth_gbps", "GB/s");
  line("share of it that the decode uses", "decode_bandwidth_percent", "%");
  line("matrix work of the prefill", "prefill_gops", "GOPS");
  line("int8 peak of the processor", "int8_peak_gops", "GOPS");
  line("f32 peak of the processor", "f32_peak_gops", "GOPS");
  line("share of the peaks in the prefill", "prefill_arithmetic_percent", "%");
  line("energy of a decoded token", "decode_joules_per_token", "J");
  if (out["decode_joules_per_token"].is_null() && !out["rounds"]["decode_tokens_per_second"].empty())
    std::printf("energy: this system shows no counter of the processor's to this user\n");
  if (out.contains("sustained")) {
    const Json& stretches = out["sustained"];
    double slowest = HUGE_VAL;
    for (const Json& s : stretches) slowest = std::min(slowest, s["decode_tokens_per_second"].get<double>());
    const double first = stretches.front()["decode_tokens_per_second"].get<double>(),
                 last = stretches.back()["decode_tokens_per_second"].get<double>();
    std::printf("sustained for %.0f s: first %.1f, last %.1f (%.0f%%), slowest stretch %.1f tokens/s\n",
                stretches.back()["seconds"].get<double>(), first, last, 100 * last / first, slowest);
  }
  std::printf("a token reads %s of weights and %s of state; state %s, work %s\n",
              human_bytes(out["weight_bytes_per_token"].get<uint64_t>()).c_str(),
              human_bytes(out["state_bytes_per_token"].get<uint64_t>()).c_str(),
              human_bytes(out["state_bytes"].get<uint64_t>()).c_str(),
              human_bytes(out["work_bytes"].get<uint64_t>()).c_str());
  if (!out.contains("device")) return;
  const Json& device = out["device"];
  std::printf("on %s a token takes %.0f dispatches, %.0f barriers and %.0f submits and reads %s of weights\n",
              device["name"].get<std::string>().c_str(), device["dispatches_per_token"].get<double>(),
              device["barriers_per_token"].get<double>(), device["submits_per_token"].get<double>(),
              human_bytes(static_cast<uint64_t>(device["weight_bytes_per_token"].get<double>())).c_str());
  std::printf("the host reads back %.0f bytes for the likeliest token, %.0f with all logits\n",
              device["read_bytes_per_token"].get<double>(),
              device["read_bytes_per_token_with_all_logits"].get<double>());
  if (out.contains("profile")) print_profile(out["profile"]);
}

int bench(BenchArguments options) {
  if (options.prompt_tokens == 0 && options.decode_tokens == 0)
    return complain(
        {ErrorCode::kInvalidArgument, "--prompt-tokens 0 and --decode-tokens 0 leave nothing to measure"});
  const BackendFactory* factory = backend_named(options.bounds.backend);
  if (options.profile && factory && factory->kind != BackendKind::kDevice)
    return complain(
        {ErrorCode::kInvalidArgument, strf("--profile reads the clock of a GPU: it needs --backend {}",
                                           backend_names(BackendKind::kDevice))});
  if (auto checked = check_bounds(options.bounds); !checked) return complain(checked.error());
  const int64_t longest = options.depth + std::max(options.prompt_tokens, options.decode_tokens);
  if (options.bounds.attention == "full" && !options.bounds.context_given) options.bounds.context = longest;
  const auto backend = find_backend(options.bounds);
  if (!backend) return complain(backend.error());
  auto model = Model::open(options.path);
  if (!model) return complain_input(model.error());
  auto session = Session::create(std::move(*model), **backend, session_options(options.bounds));
  if (!session) return complain_input(session.error());
  auto bandwidth = BandwidthProbe::create(options.bounds.threads);
  if (!bandwidth) return complain(bandwidth.error());
  Probes probes{std::move(*bandwidth), std::nullopt, EnergyMeter()};
  if (options.bounds.backend == "cpu") {
    const auto target = cpu::target_from_environment();
    if (!target) return complain(target.error());
    probes.arithmetic.emplace(*target, options.bounds.threads);
  }

  catch_interrupts();
  Bench bench;
  bench.session = std::move(*session);
  ProgressBar bar;
  const auto measured = measure(options, bench, **backend, probes, bar);
  bar.clear();
  if (!measured) return complain(measured.error());
  const Json out = report(options, bench);
  if (options.json)
    std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print_figures(out);
  return kOk;
}

}  // namespace

void add_bench(CommandLine& line) {
  const auto options = std::make_shared<BenchArguments>();
  Command command = line.command("bench", "Prefill and decode speed, and the memory bandwidth they use");
  command.option("MODEL", options->path, "a Linnet file (.lnt)").required();
  constexpr int64_t kMostTokens = int64_t{1} << 24;
  command.option("--prompt-tokens", options->prompt_tokens, "tokens of the prefill")
      .between(int64_t{0}, kMostTokens)
      .shows_default();
  command.option("--decode-tokens", options->decode_tokens, "tokens decoded one by one")
      .between(int64_t{0}, kMostTokens)
      .shows_default();
  command.option("--depth", options->depth, "tokens the state has seen before")
      .between(int64_t{0}, kMostTokens)
      .shows_default();
  command.option("--repeats", options->repeats, "rounds, after one that does not count")
      .between(1, 1000)
      .shows_default();
  command.option("--minutes", options->minutes, "then decode for so long without a pause")
      .between(0.0, 1440.0);
  command.option("--seed", options->seed, "of the random token ids").shows_default();
  command.flag("--json", options->json, "one JSON object");
  command.flag("--profile", options->profile,
               "also the time of every node on the GPU (all of them with --json)");
  add_bounds_options(command, options->bounds);
  command.does([options] { return bench(*options); });
}

}  // namespace linnet::app
