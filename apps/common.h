// What the subcommands share: exit codes, messages, sizes for people, progress, Ctrl-C, processor choice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/result.h"
#include "runtime/engine/backend_factory.h"

namespace linnet::app {

class CommandLine;

enum ExitCode : int {
  kOk = 0,
  kFailed = 1,       // the work was legitimate and something broke while doing it
  kBadInput = 2,     // an option, file or input was wrong
  kCancelled = 130,  // Ctrl-C, as shells report it
};

// Writes "linnet: message" to stderr and returns the exit code of the error.
int complain(const Error& error);
// The same where the user named the file that could not be used: a refusal of the operating system is then
// bad input too.
int complain_input(const Error& error);

// The subcommands, a file each.
void add_chat(CommandLine& line);
void add_run(CommandLine& line);
void add_inspect(CommandLine& line);
void add_bench(CommandLine& line);
void add_convert(CommandLine& line);
void add_eval(CommandLine& line);
void add_image(CommandLine& line);

// Backends by name (backends/registry), with progress shown while weights go to a device. Errors:
// kUnsupported for one this build or machine lacks.
Result<std::shared_ptr<const Backend>> find_backend(const std::string& name, BackendOptions options = {});
// For the option --backend: what there is, and what it says of itself.
std::vector<std::string> backend_choices();
std::string backend_help();
// One thread for each physical core this process may use.
int default_threads();

std::string human_bytes(uint64_t bytes);  // "91.2 MiB"
std::string human_count(int64_t count);   // "134,515,008"
std::string fixed(double value, int decimals);

// Writes out what is still held back. Errors: kIo when this or anything before it could not be written.
Result<void> flush_stdout();

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();
// For what accompanies answers on a terminal, made printable; plain when stderr is none or NO_COLOR is set.
std::string dim(std::string_view text);

// Ctrl-C asks, at points where the work can stop, instead of killing the process. A second one while the
// first is still pending kills.
void catch_interrupts();
bool interrupted();
void clear_interrupt();

// "reading 43% [########            ]" on one line of stderr, only if it is a terminal. Cheap to call often.
class ProgressBar {
 public:
  ProgressBar() = default;
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::string_view what, uint64_t done, uint64_t total);
  void clear();

 private:
  std::string what_;
  int percent_ = -1;
};

}  // namespace linnet::app
