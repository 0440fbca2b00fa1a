// The parsed form of a chat template.
//
// Names are resolved before anything is rendered, as Jinja does it: a template, a macro, the body of a call
// block, a recursive loop and the condition of a loop are functions, whose variables lie in numbered slots;
// a function sees the slots of those around it, as they are when it runs.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/template.h"
#include "runtime/text/template_value.h"

namespace linnet::text::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;

enum class ExprKind {
  kConstant,
  kName,
  kStore,      // the target of an assignment: a name
  kAttribute,  // the target of an assignment: an attribute (`text`) of the namespace items[0]
  kTuple,
  kList,
  kDict,  // keys and values in turn
  kNot,
  kNegate,
  kPlus,
  kAnd,
  kOr,
  kConditional,  // condition, value, other value or null
  kBinary,
  kConcat,
  kCompare,
  kGetattr,
  kGetitem,
  kSlice,   // object, then three bounds or null
  kCall,    // callee, then arguments
  kFilter,  // value (null: what a block captured), then arguments
  kTest,
};

// Where a variable lies: so many functions up.
struct Slot {
  int up = 0, index = -1;
};

struct Expr {
  ExprKind kind;
  int line = 0;
  int depth = 1;     // of the tree below
  Value value;       // constant
  std::string text;  // name, attribute, operator, filter or test
  std::vector<ExprPtr> items;
  std::vector<std::string> ops;  // of a comparison chain
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr more_items, more_named;  // *items, **named
  Slot slot;                       // of a name
  // What is sure to be evaluated of the tree asks for no name and calls nothing, and it has a slice: Jinja
  // works it out in advance, by other rules (Evaluator::folded).
  bool constant = true, slices = false;
};

// What entering a scope does to a variable of it.
struct Load {
  enum Kind { kParameter, kResolve, kAlias, kUndefined } kind = kUndefined;
  int slot = -1;
  std::string name;  // kResolve: a variable that was given, or a function of Jinja's
  Slot from;         // kAlias
};
struct Scope {
  std::vector<Load> loads;
};

struct FunctionNode {
  std::string name;
  int slots = 0;
  bool has_inner = false;  // functions within, which may outlive a call
  Scope scope;
  struct Parameter {
    std::string name;
    int slot = -1;
    ExprPtr absent;  // its default, or null
  };
  std::vector<Parameter> parameters;
  int caller = -1, kwargs = -1, varargs = -1;  // slots; -1: the body does not use it
  Block body;
};

enum class StmtKind {
  kText,
  kOutput,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kCall,  // {% call %}, and {% generation %} where expr is null
  kWith,
  kFilterBlock,
  kBreak,
  kContinue
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;                                 // literal text
  ExprPtr target;                                   // of for, set
  ExprPtr expr;                                     // iterable, value, filter chain, call
  std::vector<ExprPtr> outputs;                     // of output; values of with
  std::vector<ExprPtr> targets;                     // of with
  std::vector<std::pair<ExprPtr, Block>> branches;  // of an if; a null condition is else
  Block body, otherwise;
  Scope scope, otherwise_scope;  // of body
  int loop = -1;                 // the slot of `loop`, where it is used
  bool recursive = false;
  // A macro, the body of a call, a recursive loop, or the condition of a loop (which has `target` again).
  std::unique_ptr<FunctionNode> function, condition;
  ExprPtr condition_target, condition_expr;
  int slot = -1;  // of a macro's name
};

// Parses, resolves names and checks that everything is there: an unknown filter, test or tag, and what is not
// supported. Throws Failure with the line.
std::unique_ptr<FunctionNode> parse(std::string_view source);
// The names of filters and tests that render; those of Jinja's that do not.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
bool is_unsupported_filter(std::string_view name);

// template_scope.cc: gives every name its slot. Throws Failure.
void resolve_names(FunctionNode& program);

// Kept in each place where the parser and the evaluator recurse.
class StackGuard {
 public:
  explicit StackGuard(const void* base) : base_(static_cast<const char*>(base)) {}
  void check() const {
    const auto* here = static_cast<const char*>(__builtin_frame_address(0));
    const auto used = base_ > here ? base_ - here : here - base_;
    if (static_cast<size_t>(used) > kMostStack) out_of_bound("it is nested too deeply");
  }

 private:
  const char* base_;
};

}  // namespace linnet::text::jinja

namespace linnet::text {
struct ChatTemplate::Program {
  std::unique_ptr<jinja::FunctionNode> root;
};
}  // namespace linnet::text
