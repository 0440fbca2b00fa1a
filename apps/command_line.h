// What a subcommand may be told, without the library that reads it: only command_line.cc includes CLI11,
// whose headers take as long to compile as a whole subcommand does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace linnet::app {

// One option or positional argument; each function adds to it and returns it.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option required();
  // The heading under which --help lists it.
  Option group(const std::string& name);
  // --help shows the value that the variable has when this is called.
  Option shows_default();
  Option one_of(std::vector<std::string> names);
  // Both bounds are allowed. T: int, int64_t, float, double.
  template <typename T>
  Option between(T lowest, T highest);
  // Bytes with a unit, at least `least` of them: 64M is 64 * 1024 * 1024.
  Option bytes(uint64_t least = 0);
  // How many values it takes.
  Option values(int least, int most);
  // Sets `given` when the command line has it.
  Option tells(bool& given);

 private:
  CLI::Option* option_;
};

// One subcommand. A handle: copies are the same subcommand.
class Command {
 public:
  Command(CLI::App* app, std::function<int()>* chosen) : app_(app), chosen_(chosen) {}

  // `names`: "-o,--output" for an option, "MODEL" for a positional argument. `variable` must outlive the
  // parsing. T: std::string, int, int64_t, uint64_t, float, double; std::optional of std::string, int,
  // uint64_t, float; std::vector of std::string, int64_t (repeated).
  template <typename T>
  Option option(const std::string& names, T& variable, const std::string& description);
  Option flag(const std::string& names, bool& variable, const std::string& description);
  // Whether the command line had the option. After parsing.
  bool given(const std::string& name) const;
  // What --help ends with.
  void footer(const std::string& text);
  // What the command does once its options are read; returns the exit code.
  void does(std::function<int()> action);

 private:
  CLI::App* app_;
  std::function<int()>* chosen_;
};

// `linnet` and its subcommands.
class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  Command command(const std::string& name, const std::string& description);
  // Reads the arguments and does what they ask for; --help and --version print. Returns the exit code:
  // kBadInput, told on stderr with the nearest name there is, for arguments that cannot be understood.
  int run(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
  std::function<int()> chosen_;
};

}  // namespace linnet::app
