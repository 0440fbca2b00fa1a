// The linnet command: arguments in, text out. What it does lives in the libraries.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <clocale>
#include <csignal>
#include <exception>
#include <string>
#include <vector>

#include "apps/common.h"
#include "runtime/core/strings.h"

namespace linnet::app {
namespace {

// Edits (insert, delete, replace) that turn one text into the other.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string closest(const std::string& wrong, const std::vector<std::string>& right) {
  std::string best;
  size_t distance = wrong.size() / 2 + 1;
  for (const std::string& candidate : right) {
    const size_t d = edit_distance(wrong, candidate);
    if (d < distance) {
      distance = d;
      best = candidate;
    }
  }
  return best;
}

CLI::App* chosen(CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? nullptr : commands.front();
}

int usage_error(CLI::App& app, const std::string& message, const std::string& hint) {
  CLI::App* command = chosen(app);
  return complain(
      Error{ErrorCode::kInvalidArgument, strf("{}{}; `linnet{}{} --help` lists the options", message, hint,
                                              command ? " " : "", command ? command->get_name() : "")});
}

int unexpected_argument(CLI::App& app) {
  CLI::App* command = chosen(app);
  const std::vector<std::string> left = app.remaining(true);
  const std::string wrong = left.empty() ? "" : left.front();
  std::vector<std::string> names;
  if (command && wrong.starts_with("-")) {
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  } else if (!command) {
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(sub->get_name());
  }
  const std::string guess = closest(wrong.substr(0, wrong.find('=')), names);
  const char* kind = wrong.starts_with("-") ? "unknown option"
                     : command              ? "unexpected argument"
                                            : "unknown command";
  return usage_error(app, strf("{} '{}'", kind, wrong),
                     guess.empty() ? "" : strf(" (did you mean '{}'?)", guess));
}

int run(int argc, char** argv) {
  CLI::App app("Linnet runs linear-attention models on this computer: one file, fixed memory, no network.",
               "linnet");
  app.set_version_flag("--version", LINNET_VERSION);
  app.require_subcommand(0, 1);
  Action action;
  add_chat(app, action);
  add_image(app, action);
  add_run(app, action);
  add_inspect(app, action);
  add_bench(app, action);
  add_convert(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    return unexpected_argument(app);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return usage_error(app, e.what(), "");
  }
  if (!action) {
    std::fputs(app.help().c_str(), stderr);
    return kBadInput;
  }
  return action();
}

}  // namespace
}  // namespace linnet::app

int main(int argc, char** argv) {
  // Only the character set: numbers must look the same everywhere.
  std::setlocale(LC_CTYPE, "");
  // A file that may grow no further is an error that is told, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return linnet::app::run(argc, argv);
  } catch (const std::bad_alloc&) {
    return linnet::app::complain({linnet::ErrorCode::kOutOfMemory, "the system has no memory left"});
  } catch (const std::exception& e) {
    return linnet::app::complain({linnet::ErrorCode::kInternal, linnet::strf("unexpected: {}", e.what())});
  }
}
