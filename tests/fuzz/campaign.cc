// A campaign of hostile model files: seeded mutants of small models (lnt_mutator.h), each opened, planned,
// talked with or painted with and run method by method in a child process of its own, whose processor time,
// memory and stack are limited. Counts what was run, refused, crashed or did not end; the files of the last
// two are kept. Exit code 1 if there are any.
//
//   linnet_campaign [--mutants N] [--seed S] [--artifacts FOLDER] [--seconds CPU] [MODEL.lnt ...]
//
// Without models: those of tests/golden and models/lit-fashion. A file given with --file is tried as it is.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "backends/cpu/cpu.h"
#include "format/container.h"
#include "linnet/chat.h"
#include "linnet/image.h"
#include "runtime/core/strings.h"
#include "tests/fuzz/lnt_mutator.h"
#include "tests/fuzz/model_run.h"
#include "tests/fuzz/tiny_files.h"
#include "tests/sanitized.h"

namespace linnet::fuzz {
namespace {

namespace fs = std::filesystem;

struct Settings {
  uint64_t seed = 1;
  int mutants = 200;  // of each model
  rlim_t seconds = testing::kSanitized ? 60 : 15;
  fs::path artifacts = "campaign-artifacts";
  std::vector<std::string> models;
  std::vector<std::string> files;
};

enum : int { kRun = 0, kRefused = 10, kSilent = 11 };

constexpr rlim_t kMemory = rlim_t{4} << 30, kStack = rlim_t{1} << 20;

[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  _exit(code);
}
// Refused: an error, which must have words.
void told(const Error& error) {
  if (error.message.empty()) leave(kSilent);
}

// The options that a person would give, and small bounds.
bool talk(const std::shared_ptr<const Model>& model, bool full) {
  SessionOptions options;
  options.full_attention = full;
  options.window = 32;
  options.context = 64;
  options.chunk = 16;
  options.threads = 2;
  options.history_bytes = size_t{1} << 20;
  const auto need = Session::memory_required(*model, **cpu_backend(), options);
  if (!need) return told(need.error()), false;
  auto session = Session::create(model, **cpu_backend(), options);
  if (!session) return told(session.error()), false;
  ChatOptions chat_options;
  chat_options.max_tokens = 3;
  chat_options.checkpoint_bytes = size_t{1} << 20;
  if (const auto logits = (*session)->decode(1); !logits) told(logits.error());
  if (!(*session)->reset()) return true;
  auto chat = Chat::create(std::move(*session), chat_options);
  if (!chat) return told(chat.error()), true;
  for (const char* message : {"hi", "hi there"})
    if (const auto turn = (*chat)->send(message); !turn) told(turn.error());
  return true;
}

bool paint(const std::shared_ptr<const Model>& model) {
  ImageOptions options;
  options.threads = 2;
  const auto need = ImageSession::memory_required(*model, **cpu_backend(), options);
  if (!need) return told(need.error()), false;
  const auto session = ImageSession::create(model, **cpu_backend(), options);
  if (!session) return told(session.error()), false;
  for (const int64_t side : {int64_t{0}, (*session)->size_multiple()}) {
    ImageRequest request;
    request.prompt = "a bird";
    request.class_label = 1;
    request.steps = 2;
    request.height = request.width = side;
    if (const auto result = (*session)->generate(request); !result) told(result.error());
  }
  return true;
}

// In the child.
[[noreturn]] void use_file(const std::string& path, uint64_t seed) {
  const auto model = Model::open(path);
  if (!model) {
    told(model.error());
    leave(kRefused);
  }
  bool used = false;
  if ((*model)->file().model().image) {
    used = paint(*model);
  } else {
    used = talk(*model, false);
    used = talk(*model, true) || used;
  }
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  used = run_file(std::as_bytes(std::span(bytes)), seed) || used;
  leave(used ? kRun : kRefused);
}

void limit(int resource, rlim_t value) {
  const struct rlimit limits = {value, value};
  setrlimit(resource, &limits);
}

struct Outcome {
  std::string kind;  // run, refused, crash, hang
  std::string how;
};

Outcome try_file(const std::string& path, uint64_t seed, const Settings& settings) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return {"crash", "cannot fork"};
  if (child == 0) {
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, settings.seconds);
    limit(RLIMIT_STACK, kStack);
    if (!testing::kSanitized) limit(RLIMIT_AS, kMemory);
    use_file(path, seed);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4 * settings.seconds + 20);
  int status = 0;
  struct rusage used = {};
  while (wait4(child, &status, WNOHANG, &used) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(child, SIGKILL);
      wait4(child, &status, 0, &used);
      return {"hang", "stood still"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const bool slow = signal == SIGXCPU || (signal == SIGKILL && used.ru_utime.tv_sec + 1 >=
                                                                     static_cast<time_t>(settings.seconds));
    return {slow ? "hang" : "crash", strf("signal {} ({})", signal, strsignal(signal))};
  }
  const int code = WEXITSTATUS(status);
  if (code == kRun) return {"run", ""};
  if (code == kRefused) return {"refused", ""};
  return {"crash", code == kSilent ? "an error without a message" : strf("exit code {}", code)};
}

std::vector<std::byte> read_head(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto all = std::as_bytes(std::span(bytes));
  const auto header = format::decode_header(all);
  if (!header) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), header.error().message.c_str());
    std::exit(2);
  }
  const auto head = all.subspan(static_cast<size_t>(header->head_offset));
  return {head.begin(), head.end()};
}

class Campaign {
 public:
  explicit Campaign(const Settings& settings) : settings_(settings) {}

  void try_mutants(const std::string& model) {
    const std::vector<std::byte> head = read_head(model);
    const std::string name = fs::path(model).stem().string(),
                      path = (fs::path(converted_folder()) / "mutant.lnt").string();
    std::map<std::string, int> counts;
    std::mt19937_64 random(settings_.seed);
    for (int i = 0; i < settings_.mutants; ++i) {
      const uint64_t seed = random();
      std::mt19937_64 of_mutant(seed);
      const Mutant mutant = mutate_head(head, of_mutant);
      if (mutant.head.empty()) continue;
      const std::vector<std::byte> file = file_of_head(mutant.head);
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
      const Outcome outcome = try_file(path, seed, settings_);
      ++counts[outcome.kind];
      if (outcome.kind == "crash" || outcome.kind == "hang") {
        fs::create_directories(settings_.artifacts);
        const fs::path kept = settings_.artifacts / strf("{}_{}_{}.lnt", name, outcome.kind, i);
        fs::copy_file(path, kept, fs::copy_options::overwrite_existing);
        std::printf("%s: %s (%s): %s; kept as %s\n", outcome.kind.c_str(), name.c_str(), outcome.how.c_str(),
                    mutant.what.c_str(), kept.c_str());
      }
    }
    report(name, counts);
  }

  void try_as_it_is(const std::string& path) {
    const Outcome outcome = try_file(path, 1, settings_);
    std::printf("%s: %s %s\n", path.c_str(), outcome.kind.c_str(), outcome.how.c_str());
    ++total_[outcome.kind];
  }

  int finish() {
    report("in all", total_);
    return total_["crash"] + total_["hang"] > 0 ? 1 : 0;
  }

 private:
  static std::string converted_folder() {
    return fs::path(converted("language/llama/model")).parent_path().string();
  }

  void report(const std::string& name, std::map<std::string, int> counts) {
    int all = 0;
    for (const auto& [kind, count] : counts) all += count;
    std::printf("%-32s %5d mutants: %5d run, %5d refused, %d crashed, %d did not end\n", name.c_str(), all,
                counts["run"], counts["refused"], counts["crash"], counts["hang"]);
    std::fflush(stdout);
    if (&counts != &total_)
      for (const auto& [kind, count] : counts) total_[kind] += name == "in all" ? 0 : count;
  }

  const Settings& settings_;
  std::map<std::string, int> total_;
};

const char* const kGolden[] = {"language/llama/model",          "language/naive_window_linear/model",
                               "language/fla_rwkv7/model",      "language/mamba2/model",
                               "language/kimi_linear/model",    "language/naive_mom/model",
                               "language/qwen3_next_moe/model", "language/gemma2/model",
                               "language/falcon_h1/model",      "image/sana_pipeline/model",
                               "image/pixart_pipeline/model"};

int usage(const char* command) {
  std::fprintf(stderr,
               "usage: %s [--mutants N] [--seed S] [--artifacts FOLDER] [--seconds CPU] [--file FILE] "
               "[MODEL.lnt ...]\n",
               command);
  return 2;
}

}  // namespace
}  // namespace linnet::fuzz

int main(int argc, char** argv) {
  using namespace linnet::fuzz;
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (!name.starts_with("--")) {
      settings.models.emplace_back(name);
      continue;
    }
    if (++i == argc) return usage(argv[0]);
    if (name == "--mutants")
      settings.mutants = std::atoi(argv[i]);
    else if (name == "--seed")
      settings.seed = std::strtoull(argv[i], nullptr, 10);
    else if (name == "--artifacts")
      settings.artifacts = argv[i];
    else if (name == "--seconds")
      settings.seconds = static_cast<rlim_t>(std::atoi(argv[i]));
    else if (name == "--file")
      settings.files.emplace_back(argv[i]);
    else
      return usage(argv[0]);
  }
  Campaign campaign(settings);
  for (const std::string& file : settings.files) campaign.try_as_it_is(file);
  if (settings.models.empty() && settings.files.empty()) {
    for (const char* golden : kGolden) settings.models.push_back(converted(golden));
    settings.models.emplace_back(LINNET_GOLDEN "/../../models/lit-fashion/lit-fashion.lnt");
  }
  for (const std::string& model : settings.models) campaign.try_mutants(model);
  return campaign.finish();
}
