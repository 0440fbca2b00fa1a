#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/text/template_ast.h"

namespace linnet::text::jinja {

inline constexpr int64_t kMostSteps = 2'000'000;
inline constexpr size_t kMostOutput = size_t{64} << 20;
inline constexpr int kMostCalls = 100;
inline constexpr int kMostNesting = 48;

// One rendering. Scopes follow Jinja: a loop body or macro sees outer names but its own `set` does not leave
// it (that is what namespace() is for); an `if` has no scope of its own.
struct Evaluator {
  std::vector<std::map<std::string, Value>> scopes;
  std::string out;
  int64_t steps = 0;
  int calls = 0;
  int64_t now = -1;

  enum class Flow { kNormal, kBreak, kContinue };
  Flow run(const Block& block);
  Value eval(const Expr& e);

 private:
  Flow run(const Stmt& s);
  Flow run_for(const Stmt& s);
  void set(const std::string& target, Value value, int line);
  void check_nesting(const Value& v, const Dict* never, int depth, int line);
  std::string capture(const Block& block);
  Value lookup(const std::string& name) const;
  Value call(const Expr& e);
  Value call_macro(const MacroNode& macro, const Expr& e);
  Value binary(const Expr& e);
  bool compare_chain(const Expr& e);
  Value index(const Value& object, const Value& key, int line);
  Value attribute(const Value& object, const std::string& name);
  Value slice(const Expr& e);
  void step(int line) {
    if (++steps > kMostSteps) throw Failure{"it takes too many steps", line, false, true};
  }
  void bounded(size_t bytes, int line) const {
    if (bytes > kMostOutput) throw Failure{"it makes a text of more than 64 MiB", line, false, true};
  }
  struct Arguments {
    List positional;
    Dict named;
    // The i-th positional argument, or the named one, or absent.
    const Value* get(size_t i, const std::string& name) const;
  };
  Arguments arguments(const Expr& e, size_t from);
  // template_builtins.cc
  Value filter(const std::string& name, const Value& v, const Arguments& args, int line);
  bool test(const std::string& name, const Value& v, const Arguments& args, int line);
  Value method(const Value& object, const std::string& name, const Arguments& args, int line);
  Value function(const std::string& name, const Arguments& args, int line);
  List sequence(const Value& v, int line) const;
};

}  // namespace linnet::text::jinja
