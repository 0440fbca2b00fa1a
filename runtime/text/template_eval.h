// One rendering of a template.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/template_ast.h"

namespace linnet::text::jinja {

// A step is an expression, a statement, an item that is walked, or 256 bytes of text that are gone through:
// the bound is one of time.
inline constexpr int64_t kMostSteps = 5'000'000;

struct Evaluator;

// What is walked once, item by item.
struct Iterator : Object {
  Iterator() : Object(kIterator) {}
  virtual std::optional<Value> next(Evaluator& e) = 0;
};
using IteratorPtr = std::shared_ptr<Iterator>;

// The variables of one call of a function.
struct Activation : Counted {
  std::vector<Value> slots;
  std::shared_ptr<Activation> around;
};
using ActivationPtr = std::shared_ptr<Activation>;

struct Macro : Object {
  Macro(const FunctionNode* n, ActivationPtr a) : Object(kMacro), node(n), around(std::move(a)) {}
  const FunctionNode* node;
  ActivationPtr around;
};

// `loop`
struct Loop : Object {
  Loop() : Object(kLoop) {}
  Value iterable;
  IteratorPtr source;
  int64_t index0 = -1;
  int depth0 = 0;
  std::optional<int64_t> known_length;
  std::optional<Value> after;  // an item that was looked at in advance
  bool ended = false;
  Value current, before, last_changed;
  bool was_changed = false;
  const Stmt* recursive = nullptr;
  ActivationPtr around;  // of the function that holds a recursive loop

  std::optional<Value> advance(Evaluator& e);
  bool peek(Evaluator& e);  // whether there is another item, which is then in `after`
  int64_t length(Evaluator& e);
};

struct Arguments {
  List items;
  std::vector<std::pair<std::string, Value>> named;
};
// The arguments of a function by its parameters' names; null where one was not given.
using Bound = std::array<const Value*, 6>;

struct Evaluator {
  Evaluator() : stack(__builtin_frame_address(0)) {}
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  Account account;  // outlives all values
  Heap heap{&account};
  StackGuard stack;
  std::map<std::string, Value, std::less<>> given;
  int64_t now = -1;
  int64_t steps = 0;
  int line = 0;
  TextBuilder out;
  // What could be part of a ring or a long chain of values lives to the end.
  std::vector<ActivationPtr> kept;
  std::vector<std::shared_ptr<Namespace>> namespaces;

  void render(const FunctionNode& root);

  // ---- statements (template_eval.cc) ----
  enum class Flow { kNormal, kBreak, kContinue };
  Flow run(const Block& block);
  Flow run(const Stmt& s);
  Flow run_for(const Stmt& s);
  Flow run_loop(const Stmt& s, const Value& iterable, ActivationPtr around, int depth);
  Value run_recursive(const Stmt& s, const Value& iterable, ActivationPtr around, int depth);
  Flow run_captured(const Stmt& s);
  void run_call_block(const Stmt& s);
  void write_text(const Value& v);
  Flow run_with(const Stmt& s);
  void assign(const Expr& target, const Value& value);
  void enter(const Scope& scope);
  void leave(const Scope& scope);
  Value& slot(const Slot& slot);
  ActivationPtr activate(const FunctionNode& node, ActivationPtr around);
  template <typename F>
  Value captured(const F& body) {
    TextBuilder outer;
    std::swap(outer, out);
    body();
    std::swap(outer, out);
    return outer.value(heap);
  }
  ActivationPtr here;  // the function that runs

  // ---- expressions (template_evaluate.cc) ----
  Value eval(const Expr& e);
  std::optional<Value> folded(const Expr& e);
  bool folding_ = false;
  Value eval_list(const Expr& e);
  Value eval_dict(const Expr& e);
  Value eval_binary(const Expr& e);
  Value eval_concat(const Expr& e);
  Value eval_compare(const Expr& e);
  Value eval_name(const Expr& e);
  Value eval_getitem(const Expr& e);
  Value eval_slice(const Expr& e);
  Value eval_call(const Expr& e);
  Value eval_filter(const Expr& e, const Value* captured);
  Value eval_test(const Expr& e);
  Arguments arguments(const Expr& e, size_t from);
  Value resolve(const std::string& name);

  // ---- operations (template_operations.cc) ----
  Value binary(const std::string& op, const Value& a, const Value& b);
  bool compare(const std::string& op, const Value& a, const Value& b);
  bool contains(const Value& container, const Value& item);
  bool same(const Value& a, const Value& b);  // equal(), with its steps counted
  Value slice(const Value& object, const Value& first, const Value& last, const Value& stride);
  Value joined(const Value& a, const Value& b);  // text + text
  Value repeated(const Value& v, int64_t n);
  // template_access.cc
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value attribute_path(Value object, const Value& path, const Value* absent = nullptr);

  // ---- walking (template_iterate.cc) ----
  IteratorPtr iterate(const Value& v);
  int64_t length(const Value& v);  // len(v)
  List all_of(const Value& v);     // list(v)
  IteratorPtr generator(int depth, std::function<std::optional<Value>(Evaluator&)> next);
  Value wrapped(IteratorPtr it) { return Value(ObjectPtr(std::move(it))); }

  // ---- calls (template_call.cc) ----
  Value call(const Value& callee, Arguments& args);
  Value call_macro(const Macro& macro, Arguments& args);
  Value call_function(const std::string& name, Arguments& args);
  Value make_namespace(Arguments& args);
  void set_attribute(Namespace& ns, const std::string& name, Value value);

  // ---- text of values (template_write.cc) ----
  void write(TextBuilder& to, const Value& v);       // str(v)
  void write_repr(TextBuilder& to, const Value& v);  // repr(v)
  void write_ascii(TextBuilder& to, const Value& v);
  Value text_of(const Value& v);       // str(v), a plain text
  Value soft_text_of(const Value& v);  // the same, but a text stays what it is
  Value to_json(const Value& v, const Arguments& args);

  // ---- formats (template_format.cc) ----
  Value percent(const Value& pattern, const Value& values);
  Value format(const Value& pattern, const Arguments& args);

  Value filter(const std::string& name, const Value& v, Arguments& args);
  bool test(const std::string& name, const Value& v, Arguments& args);
  Value method(const Method& m, Arguments& args);
  Value text_method(const Value& object, const std::string& name, Arguments& args);

  void step(int64_t count = 1) {
    steps += count;
    if (steps > kMostSteps) out_of_bound("it takes too many steps");
  }
  void step_bytes(size_t bytes) { step(1 + static_cast<int64_t>(bytes / 256)); }
  // A key is gone through for its hash.
  void step_key(const Value& key) {
    if (key.text()) step_bytes(key.bytes().size());
    if (key.tuple())
      for (const Value& item : key.items()) step(), step_key(item);
  }
};

Bound bind_arguments(const char* function, const Arguments& args, std::span<const char* const> names,
                     size_t required);
int64_t whole(const Value& v);  // an integer, or a Failure
Value escaped(Evaluator& e, const Value& v);
std::string lower_of(const Value& v);

// Names of what texts and other values have as methods.
bool is_text_method(std::string_view name);

}  // namespace linnet::text::jinja
