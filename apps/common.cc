#include "apps/common.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "backends/registry/registry.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

// A signal handler can reach nothing but a global.
volatile sig_atomic_t g_interrupted = 0;

void on_interrupt(int signal_number) {
  if (g_interrupted) {
    ::signal(signal_number, SIG_DFL);
    ::raise(signal_number);
  }
  g_interrupted = 1;
}

int report(const Error& error, bool user_named_it) {
  std::fflush(stdout);
  std::fprintf(stderr, "linnet: %s\n", text::printable(error.message).c_str());
  switch (error.code) {
    case ErrorCode::kCancelled:
      return kCancelled;
    case ErrorCode::kIo:
    case ErrorCode::kOutOfMemory:
      return user_named_it ? kBadInput : kFailed;
    case ErrorCode::kInternal:
    case ErrorCode::kNumeric:
    case ErrorCode::kPoisoned:
      return kFailed;
    default:
      return kBadInput;
  }
}

}  // namespace

int complain(const Error& error) { return report(error, false); }
int complain_input(const Error& error) { return report(error, true); }

std::vector<std::string> backend_choices() {
  std::vector<std::string> names;
  for (const BackendFactory* factory : backends()) names.emplace_back(factory->name);
  return names;
}

std::string backend_help() {
  std::string text = "processor: ";
  for (const BackendFactory* factory : backends())
    text += strf("{}{} ({})", factory == backends().front() ? "" : ", ", factory->name, factory->description);
  return text;
}

Result<std::shared_ptr<const Backend>> find_backend(const std::string& name, BackendOptions options) {
  if (const BackendFactory* factory = backend_named(name);
      factory && factory->kind != BackendKind::kDevice && !options.device.empty())
    return fail(ErrorCode::kInvalidArgument,
                strf("--device chooses a GPU: it needs --backend {}", backend_names(BackendKind::kDevice)));
  options.progress = [bar = std::make_shared<ProgressBar>()](uint64_t done, uint64_t total) {
    if (done < total)
      bar->show("copying weights to the GPU", done, total);
    else
      bar->clear();
  };
  return open_backend(name, options);
}

int default_threads() {
  const unsigned allowed = std::max(1u, std::thread::hardware_concurrency());
  // Two hardware threads of one core share its vector units: the second only disturbs.
  std::set<std::string> cores;
  for (unsigned cpu = 0; cpu < 4096; ++cpu) {
    std::ifstream siblings(strf("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string line;
    if (!std::getline(siblings, line)) break;
    cores.insert(line);
  }
  const auto physical = static_cast<unsigned>(cores.size());
  return static_cast<int>(physical == 0 ? allowed : std::min(allowed, physical));
}

std::string fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

std::string human_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fixed(value, unit == 0 ? 0 : value < 100 ? 2 : 1) + " " + kUnits[unit];
}

std::string human_count(int64_t count) {
  std::string digits = std::to_string(count);
  const auto stop = static_cast<std::ptrdiff_t>(count < 0 ? 1 : 0);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > stop; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

Result<void> flush_stdout() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return fail(ErrorCode::kIo,
              strf("cannot write all of the output to standard output ({}): give it a disk with room, or a "
                   "reader that stays",
                   errno == 0 ? "it failed earlier" : std::strerror(errno)));
}

bool stdin_is_terminal() { return isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

std::string dim(std::string_view text) {
  const std::string shown = text::printable(text);
  return !stderr_is_terminal() || std::getenv("NO_COLOR") ? shown : strf("\x1b[2m{}\x1b[0m", shown);
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // not SA_RESTART: a read that waits for the user must return
  sigaction(SIGINT, &action, nullptr);
}
bool interrupted() { return g_interrupted != 0; }
void clear_interrupt() { g_interrupted = 0; }

void ProgressBar::show(std::string_view what, uint64_t done, uint64_t total) {
  if (!stderr_is_terminal()) return;
  const int percent =
      total == 0
          ? 100
          : static_cast<int>(100.0 * static_cast<double>(std::min(done, total)) / static_cast<double>(total));
  if (percent == percent_ && what == what_) return;
  percent_ = percent;
  what_ = what;
  const auto filled = static_cast<size_t>(percent * 30 / 100);
  std::fprintf(stderr, "\r\x1b[K%s %3d%% [%s%s]", what_.c_str(), percent, std::string(filled, '#').c_str(),
               std::string(30 - filled, ' ').c_str());
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (percent_ < 0) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  percent_ = -1;
}

}  // namespace linnet::app
