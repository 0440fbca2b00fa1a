#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/text/template_ast.h"

namespace linnet::text::jinja {

// A step is an expression, a statement, an item that is walked, or 256 bytes of text that are gone through:
// the bound is one of time.
inline constexpr int64_t kMostSteps = 5'000'000;
// Of an item that is made: it takes memory as well.
inline constexpr int64_t kItemSteps = 8;
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
  void step(int line, int64_t count = 1) {
    steps += count;
    if (steps > kMostSteps) throw Failure{"it takes too many steps", line, false, true};
  }
  // The steps of going through a value once, not through what its items hold.
  static int64_t cost(const Value& v) {
    if (v.is_string()) return 1 + static_cast<int64_t>(v.string().size() / 256);
    if (v.is_list()) return 1 + static_cast<int64_t>(v.list().size() / 16);
    if (v.is_dict()) return 1 + static_cast<int64_t>(v.dict().size() / 4);
    return 1;
  }
  // A text that was made.
  void made(size_t bytes, int line) {
    if (bytes > kMostOutput) throw Failure{kTooLong, line, false, true};
    step(line, static_cast<int64_t>(bytes / 256));
  }
  // A search for `part` in `text`, which may compare all of it at each place.
  void search(const std::string& text, const std::string& part, int line) {
    step(line, static_cast<int64_t>((text.size() / 256 + 1) * (part.size() / 16 + 1)));
  }
  bool same(const Value& a, const Value& b, int line);
  std::string text_of(const Value& v, int line);
  void write(const Value& v, int line);
  struct Arguments {
    List positional;
    Dict named;
    // The i-th positional argument, or the named one, or absent.
    const Value* get(size_t i, const std::string& name) const;
  };
  Arguments arguments(const Expr& e, size_t from);
  // template_filters.cc
  Value filter(const std::string& name, const Value& v, const Arguments& args, int line);
  Value filter_items(const std::string& name, const Value& v, const Arguments& args, int line);
  // template_builtins.cc
  bool test(const std::string& name, const Value& v, const Arguments& args, int line);
  Value method(const Value& object, const std::string& name, const Arguments& args, int line);
  Value function(const std::string& name, const Arguments& args, int line);
  Value formatted(const std::string& pattern, const Arguments& args, int line);
  List sequence(const Value& v, int line);
};

}  // namespace linnet::text::jinja
