// Which variable a name means. Jinja decides it before rendering: a name that a scope assigns belongs to that
// scope, every other name to the nearest scope around it that knows it, or else to what the template is
// given. An `if` has no scope of its own; loops, macros, calls, filter, set and with blocks have one.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "runtime/core/strings.h"
#include "runtime/text/template_ast.h"

namespace linnet::text::jinja {
namespace {

// The order in which Jinja walks a tree.
template <typename F>
void each_expr(const Expr& e, const F& visit) {
  for (const ExprPtr& item : e.items)
    if (item) visit(*item);
  for (const auto& [key, value] : e.named) visit(*value);
  if (e.more_items) visit(*e.more_items);
  if (e.more_named) visit(*e.more_named);
}

// Whether a body uses names that it does not assign first.
class Uses {
 public:
  explicit Uses(std::set<std::string> names) : names_(std::move(names)) {}
  std::set<std::string> found;
  int line = 0;  // of the first one

  void expr(const Expr& e) {
    if (e.kind == ExprKind::kName && names_.contains(e.text)) {
      if (found.empty()) line = e.line;
      found.insert(e.text);
    }
    if (e.kind == ExprKind::kStore) names_.erase(e.text);
    each_expr(e, [&](const Expr& child) { expr(child); });
  }
  void body(const Block& block) {
    for (const auto& s : block) statement(*s);
  }

 private:
  void maybe(const ExprPtr& e) {
    if (e) expr(*e);
  }
  void function(const FunctionNode& f) {
    for (const auto& p : f.parameters) names_.erase(p.name);
    for (const auto& p : f.parameters) maybe(p.absent);
    body(f.body);
  }
  void statement(const Stmt& s) {
    if (s.kind == StmtKind::kFilterBlock) {
      body(s.body);
      return maybe(s.expr);
    }
    if (s.kind == StmtKind::kCall) {
      maybe(s.expr);
      return function(*s.function);
    }
    if (s.kind == StmtKind::kMacro) return function(*s.function);
    for (const ExprPtr& t : s.targets) expr(*t);
    maybe(s.target);
    maybe(s.expr);
    for (const ExprPtr& o : s.outputs) expr(*o);
    for (const auto& [condition, block] : s.branches) {
      maybe(condition);
      body(block);
    }
    body(s.body);
    body(s.otherwise);
    maybe(s.condition_expr);
  }
  std::set<std::string> names_;
};

struct FunctionScope {
  FunctionNode* node;
  FunctionScope* around;
  std::map<std::pair<int, std::string>, int> slots;
  int slot(int level, const std::string& name) {
    const auto [it, fresh] = slots.try_emplace({level, name}, node->slots);
    if (fresh) ++node->slots;
    return it->second;
  }
};

struct Variable {
  FunctionScope* function;
  int slot;
  bool operator==(const Variable&) const = default;
};

struct Symbols {
  Symbols(Symbols* outer, FunctionScope* f)
      : parent(outer), function(f), level(outer ? outer->level + 1 : 0) {}
  Symbols* parent;
  FunctionScope* function;
  int level;
  std::map<std::string, Variable> refs;
  struct Entry {
    Load::Kind kind;
    std::string name;
    std::optional<Variable> from;
  };
  std::vector<std::pair<int, Entry>> loads;  // by slot, in order
  std::set<std::string> stores;

  Entry* load_of(int slot) {
    for (auto& [s, entry] : loads)
      if (s == slot) return &entry;
    return nullptr;
  }
  void set_load(int slot, Entry entry) {
    if (Entry* old = load_of(slot))
      *old = std::move(entry);
    else
      loads.emplace_back(slot, std::move(entry));
  }
  const Variable* find(const std::string& name) const {
    for (const Symbols* s = this; s; s = s->parent)
      if (const auto it = s->refs.find(name); it != s->refs.end()) return &it->second;
    return nullptr;
  }
  Variable define(const std::string& name, Entry entry) {
    const Variable v{function, function->slot(level, name)};
    refs[name] = v;
    set_load(v.slot, std::move(entry));
    return v;
  }
  void store(const std::string& name) {
    stores.insert(name);
    if (refs.contains(name)) return;
    const Variable* outer = parent ? parent->find(name) : nullptr;
    if (outer)
      define(name, {Load::kAlias, name, *outer});
    else
      define(name, {Load::kUndefined, name, {}});
  }
  Variable parameter(const std::string& name) {
    stores.insert(name);
    return define(name, {Load::kParameter, name, {}});
  }
  void load(const std::string& name) {
    if (!find(name)) define(name, {Load::kResolve, name, {}});
  }
  void join_branches(const std::vector<Symbols>& branches) {
    std::set<std::string> fresh;
    for (const Symbols& b : branches) fresh.insert(b.stores.begin(), b.stores.end());
    for (const std::string& known : stores) fresh.erase(known);
    for (const Symbols& b : branches) {
      for (const auto& [name, variable] : b.refs) refs[name] = variable;
      for (const auto& [slot, entry] : b.loads) set_load(slot, entry);
      stores.insert(b.stores.begin(), b.stores.end());
    }
    for (const std::string& name : fresh) {
      const Variable target = *find(name);
      const Variable* outer = parent ? parent->find(name) : nullptr;
      set_load(target.slot, outer ? Entry{Load::kAlias, name, *outer} : Entry{Load::kResolve, name, {}});
    }
  }
};

// Collects what a scope assigns and asks for; stops at scopes within.
class Analysis {
 public:
  explicit Analysis(Symbols& s) : symbols_(&s) {}

  void expr(const Expr& e) {
    if (e.kind == ExprKind::kName) symbols_->load(e.text);
    if (e.kind == ExprKind::kStore) symbols_->store(e.text);
    each_expr(e, [&](const Expr& child) { expr(child); });
  }
  void parameters(const Expr& target) {
    if (target.kind == ExprKind::kStore) symbols_->parameter(target.text);
    each_expr(target, [&](const Expr& child) { parameters(child); });
  }
  void body(const Block& block) {
    for (const auto& s : block) statement(*s);
  }

 private:
  void statement(const Stmt& s) {
    switch (s.kind) {
      case StmtKind::kIf:
        return branches(s, 0);
      case StmtKind::kMacro:
        return symbols_->store(s.function->name);
      case StmtKind::kSetBlock:
        return expr(*s.target);
      case StmtKind::kFor:
      case StmtKind::kFilterBlock:
      case StmtKind::kCall:
        if (s.expr) expr(*s.expr);
        return;
      default:
        if (s.expr) expr(*s.expr);
        if (s.target) expr(*s.target);
        for (const ExprPtr& o : s.outputs) expr(*o);
    }
  }
  // An elif is walked as an if of its own within the branch of all elifs.
  void branches(const Stmt& s, size_t first) {
    const auto& [condition, block] = s.branches[first];
    expr(*condition);
    Symbols* const original = symbols_;
    const auto walk = [&](const auto& visit) {
      Symbols branch = *original;
      symbols_ = &branch;
      visit();
      symbols_ = original;
      return branch;
    };
    std::vector<Symbols> parts;
    parts.push_back(walk([&] { body(block); }));
    parts.push_back(walk([&] {
      if (first > 0) return;
      for (size_t i = 1; i < s.branches.size(); ++i)
        if (s.branches[i].first) branches_of_elif(s.branches[i]);
    }));
    parts.push_back(walk([&] {
      if (first == 0 && !s.branches.back().first) body(s.branches.back().second);
    }));
    original->join_branches(parts);
  }
  void branches_of_elif(const std::pair<ExprPtr, Block>& branch) {
    expr(*branch.first);
    Symbols* const original = symbols_;
    Symbols taken = *original, other = *original;
    symbols_ = &taken;
    body(branch.second);
    symbols_ = original;
    std::vector<Symbols> parts;
    parts.push_back(std::move(taken));
    parts.push_back(other);
    parts.push_back(std::move(other));
    original->join_branches(parts);
  }
  Symbols* symbols_;
};

Slot slot_from(const FunctionScope* here, const Variable& v) {
  Slot slot{0, v.slot};
  for (const FunctionScope* f = here; f != v.function; f = f->around) ++slot.up;
  return slot;
}

class Resolver {
 public:
  void program(FunctionNode& root) {
    FunctionScope f{&root, nullptr, {}};
    Symbols symbols(nullptr, &f);
    Uses self({"self"});
    self.body(root.body);
    if (!self.found.empty())
      throw Failure{"'self' is not supported: it stands for blocks of inheritance", self.line,
                    Failure::kUnsupported};
    Analysis(symbols).body(root.body);
    root.scope = scope_of(symbols);
    body(root.body, symbols);
  }

 private:
  static Scope scope_of(const Symbols& symbols) {
    Scope scope;
    for (const auto& [slot, entry] : symbols.loads) {
      Load load{entry.kind, slot, entry.name, {}};
      if (entry.from) load.from = slot_from(symbols.function, *entry.from);
      scope.loads.push_back(std::move(load));
    }
    return scope;
  }

  void expr(Expr& e, const Symbols& symbols) {
    if (e.kind == ExprKind::kName || e.kind == ExprKind::kStore) {
      const Variable* v = symbols.find(e.text);
      if (!v) throw Failure{strf("'{}' has no place", e.text), e.line};
      e.slot = slot_from(symbols.function, *v);
    }
    each_expr(e, [&](const Expr& child) { expr(const_cast<Expr&>(child), symbols); });
  }
  void body(Block& block, Symbols& symbols) {
    for (auto& s : block) statement(*s, symbols);
  }

  void statement(Stmt& s, Symbols& symbols) {
    switch (s.kind) {
      case StmtKind::kFor:
        return for_loop(s, symbols);
      case StmtKind::kIf:
        for (auto& [condition, block] : s.branches) {
          if (condition) expr(*condition, symbols);
          body(block, symbols);
        }
        return;
      case StmtKind::kMacro:
        s.slot = symbols.find(s.function->name)->slot;
        return function(*s.function, symbols, s.line);
      case StmtKind::kCall:
        function(*s.function, symbols, s.line);
        if (s.expr) expr(*s.expr, symbols);
        return;
      case StmtKind::kWith: {
        Symbols inner(&symbols, symbols.function);
        Analysis analysis(inner);
        for (const ExprPtr& t : s.targets) analysis.parameters(*t);
        analysis.body(s.body);
        s.scope = scope_of(inner);
        for (ExprPtr& t : s.targets) expr(*t, inner);
        for (ExprPtr& value : s.outputs) expr(*value, symbols);
        return body(s.body, inner);
      }
      case StmtKind::kFilterBlock:
      case StmtKind::kSetBlock: {
        Symbols inner(&symbols, symbols.function);
        Analysis analysis(inner);
        analysis.body(s.body);
        // A filter block's filter belongs to its scope; that of a set block only reads names there.
        if (s.expr) analysis.expr(*s.expr);
        s.scope = scope_of(inner);
        if (s.expr) expr(*s.expr, inner);
        if (s.target) expr(*s.target, symbols);
        return body(s.body, inner);
      }
      default:
        if (s.expr) expr(*s.expr, symbols);
        if (s.target) expr(*s.target, symbols);
        for (ExprPtr& o : s.outputs) expr(*o, symbols);
    }
  }

  void function(FunctionNode& node, Symbols& symbols, int line) {
    symbols.function->node->has_inner = true;
    FunctionScope f{&node, symbols.function, {}};
    Symbols inner(&symbols, &f);
    Analysis analysis(inner);
    const auto walk = [&] {
      for (const auto& p : node.parameters) inner.parameter(p.name);
      for (const auto& p : node.parameters)
        if (p.absent) analysis.expr(*p.absent);
      analysis.body(node.body);
    };
    walk();
    Uses uses({"caller", "kwargs", "varargs"});
    uses.body(node.body);
    const auto named = [&](const std::string& name) {
      return std::ranges::find(node.parameters, name, &FunctionNode::Parameter::name);
    };
    if (uses.found.contains("caller")) {
      if (const auto it = named("caller"); it == node.parameters.end())
        node.caller = inner.parameter("caller").slot;
      else if (!it->absent)
        throw Failure{"the parameter 'caller' of a macro must be left out or have a default", line};
      else
        node.caller = -2;
    }
    if (uses.found.contains("kwargs") && named("kwargs") == node.parameters.end())
      node.kwargs = inner.parameter("kwargs").slot;
    if (uses.found.contains("varargs") && named("varargs") == node.parameters.end())
      node.varargs = inner.parameter("varargs").slot;
    walk();
    node.scope = scope_of(inner);
    for (auto& p : node.parameters) {
      p.slot = inner.refs.at(p.name).slot;
      if (p.absent) expr(*p.absent, inner);
    }
    body(node.body, inner);
  }

  static void refuse_loop_as_target(const Expr& e) {
    if (e.kind == ExprKind::kStore && e.text == "loop")
      throw Failure{"nothing can be assigned to 'loop' in a loop", e.line};
    each_expr(e, refuse_loop_as_target);
  }
  static void refuse_loop_in(const Block& block) {
    for (const auto& s : block) {
      if (s->target) refuse_loop_as_target(*s->target);
      for (const ExprPtr& t : s->targets) refuse_loop_as_target(*t);
      for (const auto& [condition, inner] : s->branches) refuse_loop_in(inner);
      refuse_loop_in(s->body);
      refuse_loop_in(s->otherwise);
      if (s->function) refuse_loop_in(s->function->body);
    }
  }

  void for_loop(Stmt& s, Symbols& symbols) {
    refuse_loop_as_target(*s.target);
    refuse_loop_in(s.body);
    refuse_loop_in(s.otherwise);
    expr(*s.expr, symbols);
    if (s.condition_expr) condition_of(s, symbols);
    Uses uses({"loop"});
    uses.body(s.body);
    std::optional<FunctionScope> own;
    FunctionScope* function = symbols.function;
    if (s.recursive) {
      symbols.function->node->has_inner = true;
      s.function = std::make_unique<FunctionNode>();
      own.emplace(FunctionScope{s.function.get(), symbols.function, {}});
      function = &*own;
    }
    Symbols inner(&symbols, function), other(&symbols, function);
    if (s.recursive || !uses.found.empty()) s.loop = inner.parameter("loop").slot;
    Analysis analysis(inner);
    analysis.parameters(*s.target);
    analysis.body(s.body);
    if (!s.otherwise.empty()) Analysis(other).body(s.otherwise);
    s.scope = scope_of(inner);
    s.otherwise_scope = scope_of(other);
    expr(*s.target, inner);
    body(s.body, inner);
    body(s.otherwise, other);
  }

  void condition_of(Stmt& s, Symbols& symbols) {
    symbols.function->node->has_inner = true;
    s.condition = std::make_unique<FunctionNode>();
    FunctionScope f{s.condition.get(), symbols.function, {}};
    Symbols inner(&symbols, &f);
    Analysis analysis(inner);
    analysis.parameters(*s.target);
    analysis.expr(*s.condition_expr);
    s.condition->scope = scope_of(inner);
    expr(*s.condition_expr, inner);
    s.condition_target = copy_of(*s.target);
    expr(*s.condition_target, inner);
  }
  static ExprPtr copy_of(const Expr& target) {
    auto copy = std::make_unique<Expr>();
    copy->kind = target.kind;
    copy->line = target.line;
    copy->text = target.text;
    for (const ExprPtr& item : target.items) copy->items.push_back(copy_of(*item));
    return copy;
  }
};

}  // namespace

void resolve_names(FunctionNode& program) { Resolver().program(program); }

}  // namespace linnet::text::jinja
