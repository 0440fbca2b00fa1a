#include "apps/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

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

// The one form of numbers: decimal digits as they stand, no blanks, no "+", no nan, nothing after them, and
// within the bounds. CLI11 would take 0x10 and 010 for 16 and 8, let -1 wrap to 2^64 - 1, and nan pass any
// range. `text` becomes what CLI11 reads as the same number.
template <typename T>
std::string read_number(std::string& text, T lowest, T highest) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= lowest && value <= highest))
    return strf("'{}' is no {} from {} to {}", text, std::is_integral_v<T> ? "whole number" : "number",
                lowest, highest);
  if constexpr (std::is_integral_v<T>) text = std::to_string(value);
  return {};
}

// Digits and a unit; `text` becomes what CLI11 reads as the same size.
std::string read_size(std::string& text) {
  uint64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  const bool is_unit =
      std::all_of(end, last, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  if (error != std::errc() || !is_unit)
    return strf("'{}' is no size: give a number with a unit, such as 64M", text);
  text = std::to_string(value) + std::string(end, last);
  return {};
}

// Of what T holds the numbers; T itself if that is one.
template <typename T>
struct NumberIn {
  using Type = T;
};
template <typename T>
struct NumberIn<std::optional<T>> {
  using Type = T;
};
template <typename T>
struct NumberIn<std::vector<T>> {
  using Type = T;
};

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

}  // namespace

Option Option::required() {
  option_->required();
  return *this;
}
Option Option::group(const std::string& name) {
  option_->group(name);
  return *this;
}
Option Option::shows_default() {
  option_->capture_default_str();
  return *this;
}
Option Option::one_of(std::vector<std::string> names) {
  option_->check(CLI::IsMember(std::move(names)));
  return *this;
}
template <typename T>
Option Option::between(T lowest, T highest) {
  // The last transform comes first: a refusal names these bounds, not those of the type.
  option_->transform(
      CLI::Validator([lowest, highest](std::string& text) { return read_number(text, lowest, highest); },
                     strf("in [{} - {}]", lowest, highest)));
  return *this;
}
Option Option::bytes(uint64_t least) {
  option_->transform(CLI::AsSizeValue(false));
  option_->transform(CLI::Validator(read_size, ""));  // before AsSizeValue: see between()
  option_->check(CLI::Validator(
      [least](std::string& text) {
        uint64_t value = 0;
        std::from_chars(text.data(), text.data() + text.size(), value);
        return value >= least ? std::string() : strf("it must be {} at least", least);
      },
      ""));
  return *this;
}
Option Option::values(int least, int most) {
  option_->expected(least, most);
  return *this;
}
Option Option::tells(bool& given) {
  option_->each([&given](const std::string&) { given = true; });
  return *this;
}
template Option Option::between(int, int);
template Option Option::between(int64_t, int64_t);
template Option Option::between(float, float);
template Option Option::between(double, double);

template <typename T>
Option Command::option(const std::string& names, T& variable, const std::string& description) {
  CLI::Option* option = app_->add_option(names, variable, description);
  using Number = typename NumberIn<T>::Type;
  if constexpr (std::is_arithmetic_v<Number>)
    option->transform(CLI::Validator(
        [](std::string& text) {
          using Limits = std::numeric_limits<Number>;
          return read_number(text, Limits::lowest(), Limits::max());
        },
        ""));
  return Option(option);
}
template Option Command::option(const std::string&, std::string&, const std::string&);
template Option Command::option(const std::string&, int&, const std::string&);
template Option Command::option(const std::string&, int64_t&, const std::string&);
template Option Command::option(const std::string&, uint64_t&, const std::string&);
template Option Command::option(const std::string&, float&, const std::string&);
template Option Command::option(const std::string&, double&, const std::string&);
template Option Command::option(const std::string&, std::optional<std::string>&, const std::string&);
template Option Command::option(const std::string&, std::optional<int>&, const std::string&);
template Option Command::option(const std::string&, std::optional<uint64_t>&, const std::string&);
template Option Command::option(const std::string&, std::optional<float>&, const std::string&);
template Option Command::option(const std::string&, std::vector<std::string>&, const std::string&);
template Option Command::option(const std::string&, std::vector<int64_t>&, const std::string&);

Option Command::flag(const std::string& names, bool& variable, const std::string& description) {
  return Option(app_->add_flag(names, variable, description));
}
bool Command::given(const std::string& name) const { return app_->count(name) > 0; }
void Command::footer(const std::string& text) { app_->footer(text); }
void Command::does(std::function<int()> action) {
  app_->callback([chosen = chosen_, action = std::move(action)] { *chosen = action; });
}

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>(
          "Linnet runs linear-attention models on this computer: one file, fixed memory, no network.",
          "linnet")) {
  app_->set_version_flag("--version", LINNET_VERSION);
  app_->require_subcommand(0, 1);
}
CommandLine::~CommandLine() = default;

Command CommandLine::command(const std::string& name, const std::string& description) {
  return Command(app_->add_subcommand(name, description), &chosen_);
}

int CommandLine::run(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    return unexpected_argument(*app_);
  } catch (const CLI::CallForHelp& e) {
    return app_->exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app_->exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app_->exit(e);
  } catch (const CLI::ParseError& e) {
    return usage_error(*app_, e.what(), "");
  }
  if (!chosen_) {
    std::fputs(app_->help().c_str(), stderr);
    return kBadInput;
  }
  return chosen_();
}

}  // namespace linnet::app
