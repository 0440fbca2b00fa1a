// Hours of use in one process: long chats on a windowed and on a recurrent model, many pictures, models and
// sessions opened and closed again and again. Memory and the time of each step must stay where they were.
//
//   linnet_soak [--tokens N] [--pictures N] [--opens N]
//
// The resident size is read at even distances and a line laid through it; what it grows by over the whole is
// compared with what may grow: nothing, but for a chat's own text (kBytesPerToken). Times are the process's
// processor time, which other processes do not lengthen.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/cpu.h"
#include "linnet/chat.h"
#include "linnet/image.h"
#include "tests/fuzz/tiny_files.h"
#include "tests/sanitized.h"

namespace linnet::soak {
namespace {

// Tokens, text, messages and marks of a conversation: what a chat keeps beside its state.
constexpr double kBytesPerToken = 128;
// Pages that the allocator takes and gives back from time to time.
constexpr double kSlack = 1 << 20;
constexpr double kMostSlower = 1.5;

double processor_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double resident_bytes() {
  malloc_trim(0);
  long pages = 0, ignored = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (!file || std::fscanf(file, "%ld %ld", &ignored, &pages) != 2) std::abort();
  std::fclose(file);
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

[[noreturn]] void give_up(const std::string& message) {
  std::fprintf(stderr, "soak: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) give_up(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// What a line through the samples rises over the whole of them.
double rise(const std::vector<double>& samples) {
  const auto n = static_cast<double>(samples.size());
  double mean = 0, top = 0, bottom = 0;
  for (const double s : samples) mean += s / n;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double x = static_cast<double>(i) - (n - 1) / 2;
    top += x * (samples[i] - mean);
    bottom += x * x;
  }
  return bottom > 0 ? top / bottom * (n - 1) : 0;
}

// Runs step() until `done` of `count` is reached; step returns how much it did. The first fifth warms up.
bool soak(const char* what, int64_t count, double may_grow_each, const std::function<int64_t()>& step) {
  constexpr int kSamples = 16;
  if (count <= 0) return true;
  int64_t done = 0;
  const int64_t warm = count / 5;
  while (done < warm) done += step();
  std::vector<double> memory, seconds;
  const int64_t from = done;
  for (int i = 1; i <= kSamples; ++i) {
    const int64_t until = from + (count - from) * i / kSamples, before = done;
    const double start = processor_seconds();
    while (done < until) done += step();
    if (done > before) seconds.push_back((processor_seconds() - start) / static_cast<double>(done - before));
    memory.push_back(resident_bytes());
  }
  const size_t quarter = std::max<size_t>(1, seconds.size() / 4);
  // The quickest of a quarter: a neighbour's noise only ever slows down.
  const double early =
      *std::min_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(quarter));
  const double late = *std::min_element(seconds.end() - static_cast<std::ptrdiff_t>(quarter), seconds.end());
  const double grown = rise(memory), allowed = kSlack + may_grow_each * static_cast<double>(done - from);
  // The sanitizers keep what was freed, and few steps say nothing of time.
  const bool flat = testing::kSanitized || grown <= allowed;
  const bool steady = testing::kSanitized || count < 200 || late <= kMostSlower * early;
  std::printf(
      "%-28s %7lld: resident %.1f MiB at the end, %+.2f MiB over the run (may grow %.2f); %.3f ms each at "
      "first, %.3f "
      "at the end%s%s\n",
      what, static_cast<long long>(done), memory.back() / (1 << 20), grown / (1 << 20), allowed / (1 << 20),
      early * 1e3, late * 1e3, flat ? "" : "  MEMORY GROWS", steady ? "" : "  SLOWER AND SLOWER");
  std::fflush(stdout);
  return flat && steady;
}

bool chat(const char* golden, int64_t tokens) {
  const auto model = fuzz::open_golden(golden);
  SessionOptions session_options;
  session_options.window = 64;
  session_options.chunk = 32;
  session_options.history_bytes = size_t{1} << 20;
  ChatOptions options;
  options.max_tokens = 100;
  options.sampling.temperature = 1.0f;
  options.checkpoint_bytes = size_t{4} << 20;
  const auto chat =
      must(Chat::create(must(Session::create(model, *must(cpu_backend()), session_options)), options));
  const std::string message(60, 'a');
  return soak(golden, tokens, kBytesPerToken, [&] {
    const int64_t before = chat->session().position();
    must(chat->send(message));
    return chat->session().position() - before;
  });
}

bool pictures(int64_t count) {
  const auto model = must(Model::open(LINNET_GOLDEN "/../../models/lit-fashion/lit-fashion.lnt"));
  const auto session = must(ImageSession::create(model, *must(cpu_backend()), {}));
  uint64_t seed = 0;
  return soak("pictures", count, 0, [&]() -> int64_t {
    ImageRequest request;
    request.class_label = static_cast<int>(seed % 10);
    request.seed = seed++;
    request.steps = 2;
    must(session->generate(request));
    return 1;
  });
}

bool opens(int64_t count) {
  const std::string language = fuzz::converted("language/llama/model");
  const std::string image = LINNET_GOLDEN "/../../models/lit-fashion/lit-fashion.lnt";
  return soak("opened and closed", count, 0, [&]() -> int64_t {
    const Backend& backend = *must(cpu_backend());
    SessionOptions options;
    options.window = 64;
    options.chunk = 16;
    options.threads = 2;
    auto session = must(Session::create(must(Model::open(language)), backend, options));
    ChatOptions chat_options;
    chat_options.max_tokens = 2;
    chat_options.checkpoint_bytes = size_t{1} << 20;
    const auto chat = must(Chat::create(std::move(session), std::move(chat_options)));
    must(chat->send("hi"));
    const auto painter = must(ImageSession::create(must(Model::open(image)), backend, {}));
    return 1;
  });
}

}  // namespace
}  // namespace linnet::soak

int main(int argc, char** argv) {
  int64_t tokens = 20000, pictures = 1000, opens = 2000;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    int64_t* const to = name == "--tokens"     ? &tokens
                        : name == "--pictures" ? &pictures
                        : name == "--opens"    ? &opens
                                               : nullptr;
    if (!to) {
      std::fprintf(stderr, "usage: %s [--tokens N] [--pictures N] [--opens N]\n", argv[0]);
      return 2;
    }
    *to = std::atoll(argv[i + 1]);
  }
  using namespace linnet;
  bool good = soak::chat("language/llama/model", tokens);
  good = soak::chat("language/mamba2/model", tokens) && good;
  good = soak::pictures(pictures) && good;
  good = soak::opens(opens) && good;
  return good ? 0 : 1;
}
