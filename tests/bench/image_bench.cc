// Seconds of one call of an image model's denoiser and decoder, in turn; with --profile also where they go.
//
//   linnet_image_bench MODEL.lnt [--size 1024] [--threads 1] [--rounds 3] [--text 300] [--method NAME]
//   [--profile | --serve]
//
// With --serve each line "METHOD SIZE" of the input is one call, answered by its seconds on the clock and of
// all processors (compare_diffusers.py).
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/host/host_backend.h"
#include "format/container.h"
#include "linnet/model.h"
#include "runtime/engine/engine.h"
#include "tests/bench/bench.h"

namespace {

using namespace linnet;
using bench::must;
using Clock = std::chrono::steady_clock;

// The CPU backend's kernels, each behind a clock.
struct Profile {
  host::KernelTable kernels;
  std::array<std::map<const fb::NodeT*, double>, graph::kOpCount> seconds;
} profile;

template <size_t Op>
void timed(const host::KernelContext& c) {
  const auto start = Clock::now();
  profile.kernels[Op].run(c);
  profile.seconds[Op][c.node] += std::chrono::duration<double>(Clock::now() - start).count();
}
template <size_t... Ops>
host::KernelTable timed_table(std::index_sequence<Ops...>) {
  return {host::Kernel{profile.kernels[Ops].run ? &timed<Ops> : nullptr, profile.kernels[Ops].scratch}...};
}

void print_profile(int calls) {
  std::map<std::string, double> groups;
  double all = 0;
  for (size_t op = 0; op < graph::kOpCount; ++op)
    for (const auto& [node, seconds] : profile.seconds[op]) {
      std::string name(graph::op_info(static_cast<graph::OpKind>(op)).name);
      name += " ";
      for (const char c : node->name)  // nodes of all layers together
        name += c >= '0' && c <= '9' ? '#' : c;
      groups[name] += seconds / calls;
      all += seconds / calls;
    }
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [name, seconds] : groups) sorted.emplace_back(seconds, name);
  std::sort(sorted.rbegin(), sorted.rend());
  for (const auto& [seconds, name] : sorted)
    if (seconds > 0.002 * all)
      std::printf("  %8.2f ms %5.1f%%  %s\n", 1e3 * seconds, 100 * seconds / all, name.c_str());
  for (auto& nodes : profile.seconds) nodes.clear();
}

void fill(Engine& engine, size_t method) {
  const fb::MethodT& m = *engine.model().methods[method];
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int input : m.inputs) {
    const fb::ValueT& value = *m.values[static_cast<size_t>(input)];
    int64_t count = 1;
    for (const fb::Dim& d : value.shape) count *= graph::dim_value(d, engine.bounds().symbols);
    std::vector<float> x(static_cast<size_t>(count));
    for (float& v : x)
      v = value.name == "timestep" ? 500 : value.name == "encoder_attention_mask" ? 1 : normal(random);
    if (value.dtype == fb::DType::I32) std::memset(x.data(), 0, x.size() * sizeof(float));
    must(engine.write_value(method, static_cast<size_t>(input), std::as_bytes(std::span(x))));
  }
}

struct Options {
  std::string path, only;
  int64_t size = 1024, text = 300;
  int threads = 1, rounds = 3;
  bool profiled = false, serves = false;
};

std::unique_ptr<Engine> engine_for(const Model& model, const Backend& backend, const Options& o,
                                   int64_t size) {
  EngineOptions options;
  options.threads = o.threads;
  const auto& pipeline = model.file().model().image;
  const int64_t cells = size / (pipeline ? pipeline->size_multiple : 32);
  options.symbols = {{"height", cells}, {"width", cells}, {"text_tokens", o.text}};
  return must(Engine::create(model.shared_file(), backend, options));
}

struct Took {
  double wall, processor;  // seconds; the second of all threads together
};
Took seconds_of(Engine& engine, size_t method) {
  fill(engine, method);
  const double wall = bench::seconds(CLOCK_MONOTONIC), processor = bench::seconds(CLOCK_PROCESS_CPUTIME_ID);
  must(engine.run(method, engine.bounds().symbols, 0));
  return {bench::seconds(CLOCK_MONOTONIC) - wall, bench::seconds(CLOCK_PROCESS_CPUTIME_ID) - processor};
}

int serve(const Model& model, const Backend& backend, const Options& o) {
  std::map<int64_t, std::unique_ptr<Engine>> engines;
  char name[64];
  long long size = 0;
  while (std::scanf("%63s %lld", name, &size) == 2) {
    auto& engine = engines[size];
    if (!engine) engine = engine_for(model, backend, o, size);
    const int method = graph::find_method(engine->model(), name);
    if (method < 0) return 1;
    const Took took = seconds_of(*engine, static_cast<size_t>(method));
    std::printf("%.6f %.6f\n", took.wall, took.processor);
    std::fflush(stdout);
  }
  return 0;
}

void measure(const Model& model, const Backend& backend, const Options& o) {
  const auto engine = engine_for(model, backend, o, o.size);
  for (const char* name : {"denoise", "decode_image"}) {
    const int found = graph::find_method(engine->model(), name);
    if (found < 0 || (!o.only.empty() && o.only != name)) continue;
    const auto method = static_cast<size_t>(found);
    seconds_of(*engine, method);  // warms up
    for (auto& nodes : profile.seconds) nodes.clear();
    std::vector<double> seconds;
    for (int round = 0; round < o.rounds; ++round) seconds.push_back(seconds_of(*engine, method).wall);
    std::printf("%s at %lld px, %d threads: best %.3f s, median %.3f s\n", name,
                static_cast<long long>(o.size), o.threads, *std::ranges::min_element(seconds),
                bench::median(seconds));
    if (o.profiled) print_profile(o.rounds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--profile") {
      o.profiled = true;
    } else if (option == "--serve") {
      o.serves = true;
    } else if (!option.starts_with("--")) {
      o.path = option;
    } else {
      ++i;
      if (option == "--size") o.size = std::atoll(value);
      if (option == "--text") o.text = std::atoll(value);
      if (option == "--threads") o.threads = std::atoi(value);
      if (option == "--rounds") o.rounds = std::max(1, std::atoi(value));
      if (option == "--method") o.only = value;
    }
  }
  if (o.path.empty()) {
    std::fprintf(stderr, "usage: %s MODEL.lnt [options]\n", argv[0]);
    return 2;
  }
  const auto model = must(Model::open(o.path));
  const cpu::CpuTarget target = must(cpu::target_from_environment());
  const cpu::CpuConstants constants{target, &cpu::matmul_kernels(target)};
  profile.kernels = {{
#define LINNET_OP(pascal, snake, equation) cpu::kernel_##snake(target),
#include "runtime/graph/ops.def"
#undef LINNET_OP
  }};
  const host::HostBackend backend(
      "cpu", o.profiled ? timed_table(std::make_index_sequence<graph::kOpCount>()) : profile.kernels,
      &constants, true);
  if (o.serves) return serve(*model, backend, o);
  measure(*model, backend, o);
  return 0;
}
