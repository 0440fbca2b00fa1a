#include "runtime/text/template_eval.h"

#include <algorithm>
#include <cmath>

namespace linnet::text::jinja {

const Value* Evaluator::Arguments::get(size_t i, const std::string& name) const {
  if (i < positional.size()) return &positional[i];
  return find(named, name);
}

Evaluator::Flow Evaluator::run(const Block& block) {
  for (const auto& s : block) {
    step(s->line);
    const Flow flow = run(*s);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

std::string Evaluator::text_of(const Value& v, int line) {
  std::string text = to_text(v);
  made(text.size(), line);
  return text;
}

void Evaluator::write(const Value& v, int line) {
  out += text_of(v, line);
  if (out.size() > kMostOutput) throw Failure{kTooLong, line, false, true};
}

bool Evaluator::same(const Value& a, const Value& b, int line) {
  if (a.is_string() && b.is_string() && a.string().size() == b.string().size()) step(line, cost(a));
  // Walks as far as a comparison would at most.
  if ((a.is_list() && b.is_list()) || (a.is_dict() && b.is_dict())) check_nesting(a, nullptr, 0, line);
  return equal(a, b);
}

std::string Evaluator::capture(const Block& block) {
  std::string outer;
  std::swap(outer, out);
  run(block);
  std::swap(outer, out);
  return outer;
}

Evaluator::Flow Evaluator::run(const Stmt& s) {
  switch (s.kind) {
    case StmtKind::kText:
      out += s.text;
      if (out.size() > kMostOutput) throw Failure{kTooLong, s.line, false, true};
      return Flow::kNormal;
    case StmtKind::kOutput:
      write(eval(*s.expr), s.line);
      return Flow::kNormal;
    case StmtKind::kFor:
      return run_for(s);
    case StmtKind::kIf:
      for (const auto& [condition, body] : s.branches)
        if (!condition || truthy(eval(*condition))) return run(body);
      return Flow::kNormal;
    case StmtKind::kSet: {
      Value value = eval(*s.expr);
      if (s.names.size() == 1) {
        set(s.names[0], std::move(value), s.line);
      } else {
        const List items = sequence(value, s.line);
        if (items.size() != s.names.size())
          throw Failure{"set: the numbers of names and values differ", s.line};
        for (size_t i = 0; i < items.size(); ++i) set(s.names[i], items[i], s.line);
      }
      return Flow::kNormal;
    }
    case StmtKind::kSetBlock:
    case StmtKind::kFilterBlock: {
      Value value(capture(s.body));
      if (s.expr) {
        scopes.emplace_back();
        scopes.back()["__body__"] = value;
        value = eval(*s.expr);
        scopes.pop_back();
      }
      if (s.kind == StmtKind::kSetBlock)
        set(s.names[0], std::move(value), s.line);
      else
        write(value, s.line);
      return Flow::kNormal;
    }
    case StmtKind::kMacro:
      scopes.back()[s.macro->name] = Value(MacroRef{s.macro.get()});
      return Flow::kNormal;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kScope:
      return run(s.body);
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_for(const Stmt& s) {
  List items = sequence(eval(*s.expr), s.line);
  const auto bind = [&](const Value& item) {
    if (s.names.size() == 1) {
      scopes.back()[s.names[0]] = item;
      return;
    }
    const List parts = sequence(item, s.line);
    if (parts.size() != s.names.size())
      throw Failure{"for: an item has another number of parts than the loop has names", s.line};
    for (size_t i = 0; i < parts.size(); ++i) scopes.back()[s.names[i]] = parts[i];
  };
  if (s.condition) {
    List kept;
    for (const Value& item : items) {
      step(s.line);
      scopes.emplace_back();
      bind(item);
      if (truthy(eval(*s.condition))) kept.push_back(item);
      scopes.pop_back();
    }
    items = std::move(kept);
  }
  if (items.empty()) return run(s.otherwise);
  const auto n = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < n; ++i) {
    step(s.line);
    scopes.emplace_back();
    const auto at = [&](int64_t j) { return j < 0 || j >= n ? Value() : items[static_cast<size_t>(j)]; };
    scopes.back()["loop"] = Value(Dict{{"index", Value(i + 1)},
                                       {"index0", Value(i)},
                                       {"revindex", Value(n - i)},
                                       {"revindex0", Value(n - i - 1)},
                                       {"first", Value(i == 0)},
                                       {"last", Value(i + 1 == n)},
                                       {"length", Value(n)},
                                       {"previtem", at(i - 1)},
                                       {"nextitem", at(i + 1)}});
    bind(items[static_cast<size_t>(i)]);
    const Flow flow = run(s.body);
    scopes.pop_back();
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNormal;
}

void Evaluator::set(const std::string& target, Value value, int line) {
  const size_t dot = target.find('.');
  if (dot == std::string::npos) {
    scopes.back()[target] = std::move(value);
    return;
  }
  const Value object = lookup(target.substr(0, dot));
  if (!object.is_dict()) throw Failure{"set: '" + target.substr(0, dot) + "' is not a namespace", line};
  check_nesting(value, &object.dict(), 0, line);
  assign(object.dict(), target.substr(dot + 1), std::move(value));
}

// Values are trees of bounded depth: everything that walks or frees them may recurse. Namespaces are the only
// values that change after they are made, so here is the only way to a cycle.
void Evaluator::check_nesting(const Value& v, const Dict* never, int depth, int line) {
  step(line, v.is_dict() ? cost(v) : 1);
  if (depth > kMostNesting) throw Failure{"its values are nested too deeply", line, false, true};
  if (v.is_list())
    for (const Value& item : v.list()) check_nesting(item, never, depth + 1, line);
  if (v.is_dict()) {
    if (&v.dict() == never) throw Failure{"a namespace cannot hold itself", line};
    for (const auto& [key, item] : v.dict()) check_nesting(item, never, depth + 1, line);
  }
  if (v.is<Method>()) check_nesting(*std::get<Method>(v.data).object, never, depth + 1, line);
}

Value Evaluator::lookup(const std::string& name) const {
  for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope)
    if (const auto it = scope->find(name); it != scope->end()) return it->second;
  for (const char* builtin : {"raise_exception", "namespace", "range", "strftime_now", "dict", "joiner"})
    if (name == builtin) return Value(Builtin{name});
  return {};
}

Value Evaluator::eval(const Expr& e) {
  step(e.line);
  switch (e.kind) {
    case ExprKind::kConstant:
      return e.value;
    case ExprKind::kName:
      return lookup(e.text);
    case ExprKind::kList: {
      List items;
      for (const ExprPtr& a : e.args) items.push_back(eval(*a));
      Value list(std::move(items));
      check_nesting(list, nullptr, 0, e.line);
      return list;
    }
    case ExprKind::kDict: {
      Dict items;
      for (size_t i = 0; i < e.args.size(); i += 2) {
        const Value key = eval(*e.args[i]);
        step(e.line, static_cast<int64_t>(items.size() / 4));
        assign(items, text_of(key, e.line), eval(*e.args[i + 1]));
      }
      Value dict(std::move(items));
      check_nesting(dict, nullptr, 0, e.line);
      return dict;
    }
    case ExprKind::kNot:
      return Value(!truthy(eval(*e.args[0])));
    case ExprKind::kNegate: {
      const Value v = eval(*e.args[0]);
      if (!v.is_number()) throw Failure{std::string("cannot negate a ") + type_name(v), e.line};
      return v.is<double>() ? Value(-v.real())
                            : Value(static_cast<int64_t>(0 - static_cast<uint64_t>(v.integer())));
    }
    case ExprKind::kAnd: {
      Value v = eval(*e.args[0]);
      return truthy(v) ? eval(*e.args[1]) : v;
    }
    case ExprKind::kOr: {
      Value v = eval(*e.args[0]);
      return truthy(v) ? v : eval(*e.args[1]);
    }
    case ExprKind::kConditional:
      if (truthy(eval(*e.args[0]))) return eval(*e.args[1]);
      return e.args[2] ? eval(*e.args[2]) : Value();
    case ExprKind::kBinary:
      return binary(e);
    case ExprKind::kCompare:
      return Value(compare_chain(e));
    case ExprKind::kAttribute: {
      const Value object = eval(*e.args[0]);
      if (object.is<Undefined>()) throw Failure{"'" + e.text + "' of something undefined", e.line};
      step(e.line, object.is_dict() ? cost(object) : 1);
      return attribute(object, e.text);
    }
    case ExprKind::kIndex: {
      const Value object = eval(*e.args[0]);
      return index(object, eval(*e.args[1]), e.line);
    }
    case ExprKind::kSlice:
      return slice(e);
    case ExprKind::kCall:
      return call(e);
    case ExprKind::kFilter: {
      const Value v = eval(*e.args[0]);
      Value result = filter(e.text, v, arguments(e, 1), e.line);
      if (result.is_list() || result.is_dict()) check_nesting(result, nullptr, 0, e.line);
      return result;
    }
    case ExprKind::kTest: {
      const Value v = eval(*e.args[0]);
      return Value(test(e.text, v, arguments(e, 1), e.line));
    }
  }
  return {};
}

Value Evaluator::binary(const Expr& e) {
  const Value a = eval(*e.args[0]), b = eval(*e.args[1]);
  const std::string& op = e.text;
  if (op == "~" || (op == "+" && a.is_string() && b.is_string())) {
    std::string text = to_text(a) + to_text(b);
    made(text.size(), e.line);
    return Value(std::move(text));
  }
  if (op == "+" && a.is_list() && b.is_list()) {
    List items = a.list();
    step(e.line, kItemSteps * static_cast<int64_t>(a.list().size() / 16 + b.list().size()));
    items.insert(items.end(), b.list().begin(), b.list().end());
    Value list(std::move(items));
    check_nesting(list, nullptr, 0, e.line);
    return list;
  }
  if (op == "*" && a.is_string() && b.is<int64_t>()) {
    const auto n = static_cast<size_t>(std::max<int64_t>(0, b.integer()));
    if (!a.string().empty()) made(n > kMostOutput ? n : n * a.string().size(), e.line);
    std::string text;
    for (size_t i = 0; i < n && !a.string().empty(); ++i) text += a.string();
    return Value(std::move(text));
  }
  if (!a.is_number() || !b.is_number())
    throw Failure{"'" + op + "' does not work between " + type_name(a) + " and " + type_name(b), e.line};
  const bool real = a.is<double>() || b.is<double>();
  // Unsigned arithmetic wraps where Python's integers would grow: templates count messages.
  const auto x = static_cast<uint64_t>(a.integer()), y = static_cast<uint64_t>(b.integer());
  if (op == "+") return real ? Value(a.real() + b.real()) : Value(static_cast<int64_t>(x + y));
  if (op == "-") return real ? Value(a.real() - b.real()) : Value(static_cast<int64_t>(x - y));
  if (op == "*") return real ? Value(a.real() * b.real()) : Value(static_cast<int64_t>(x * y));
  if (op == "**")
    return real || b.integer() < 0
               ? Value(std::pow(a.real(), b.real()))
               : Value(static_cast<int64_t>(std::clamp(std::pow(a.real(), b.real()), -9e18, 9e18)));
  if (b.real() == 0) throw Failure{"a division by zero", e.line};
  if (op == "/") return Value(a.real() / b.real());
  const double floored = std::floor(a.real() / b.real());
  if (op == "//")
    return real || std::fabs(floored) > 9e18 ? Value(floored) : Value(static_cast<int64_t>(floored));
  if (real) return Value(a.real() - floored * b.real());
  if (b.integer() == -1) return Value(int64_t{0});
  const int64_t rest = a.integer() % b.integer();  // Python's sign: the divisor's
  return Value(rest != 0 && (rest < 0) != (b.integer() < 0) ? rest + b.integer() : rest);
}

bool Evaluator::compare_chain(const Expr& e) {
  Value left = eval(*e.args[0]);
  for (size_t i = 0; i < e.ops.size(); ++i) {
    const Value right = eval(*e.args[i + 1]);
    const std::string& op = e.ops[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = same(left, right, e.line) == (op == "==");
    } else if (op == "in" || op == "not in") {
      bool found = false;
      step(e.line, cost(right));
      if (right.is_string() && left.is_string()) {
        search(right.string(), left.string(), e.line);
        found = right.string().find(left.string()) != std::string::npos;
      } else if (right.is_string())
        found = false;
      else if (right.is_dict())
        found = left.is_string() && find(right.dict(), left.string()) != nullptr;
      else if (right.is_list())
        found = std::ranges::any_of(right.list(), [&](const Value& v) { return same(v, left, e.line); });
      else if (!right.is<Undefined>())
        throw Failure{std::string("'in' does not work with a ") + type_name(right), e.line};
      holds = found == (op == "in");
    } else {
      step(e.line, std::min(cost(left), cost(right)));
      try {
        const int order = compare(left, right);
        holds = op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
      } catch (Failure& f) {
        f.line = e.line;
        throw;
      }
    }
    if (!holds) return false;
    left = right;
  }
  return true;
}

Value Evaluator::attribute(const Value& object, const std::string& name) {
  if (object.is_dict()) {
    if (const Value* v = find(object.dict(), name)) return *v;
    if (name == "items" || name == "keys" || name == "values" || name == "get" || name == "update")
      return Value(Method{std::make_shared<Value>(object), name});
    return {};
  }
  if (object.is_string() || object.is_list()) return Value(Method{std::make_shared<Value>(object), name});
  return {};
}

Value Evaluator::index(const Value& object, const Value& key, int line) {
  if (!object.is_list()) step(line, cost(object));
  if (object.is_dict()) {
    const Value* v = find(object.dict(), to_text(key));
    return v ? *v : Value();
  }
  if (object.is<Undefined>()) throw Failure{"an index into something undefined", line};
  if (key.is_string()) return attribute(object, key.string());
  if (!key.is_number()) return {};
  int64_t i = key.integer();
  if (object.is_list()) {
    const auto n = static_cast<int64_t>(object.list().size());
    if (i < 0) i += n;
    return i < 0 || i >= n ? Value() : object.list()[static_cast<size_t>(i)];
  }
  if (object.is_string()) {
    const int64_t n = code_points(object.string());
    if (i < 0) i += n;
    return i < 0 || i >= n ? Value() : Value(substring(object.string(), i, i + 1));
  }
  return {};
}

Value Evaluator::slice(const Expr& e) {
  const Value object = eval(*e.args[0]);
  if (!object.is_list() && !object.is_string())
    throw Failure{std::string("a slice of a ") + type_name(object), e.line};
  step(e.line, cost(object));
  const int64_t n =
      object.is_list() ? static_cast<int64_t>(object.list().size()) : code_points(object.string());
  const auto bound = [&](size_t i) {
    return i < e.args.size() && e.args[i] ? eval(*e.args[i]) : Value(None{});
  };
  const Value first = bound(1), last = bound(2), by = bound(3);
  const int64_t stride = by.is_number() ? by.integer() : 1;
  if (stride == 0) throw Failure{"a slice with step 0", e.line};
  const auto clamp = [&](const Value& v, int64_t absent) {
    if (!v.is_number()) return absent;
    int64_t i = v.integer();
    if (i < 0) i += n;
    return std::clamp(i, stride > 0 ? int64_t{0} : int64_t{-1}, stride > 0 ? n : n - 1);
  };
  int64_t begin = clamp(first, stride > 0 ? 0 : n - 1);
  const int64_t end = clamp(last, stride > 0 ? n : -1);
  if (object.is_string() && stride == 1) return Value(substring(object.string(), begin, end));
  List items;
  std::string text;
  for (; stride > 0 ? begin < end : begin > end; begin += stride) {
    step(e.line);
    if (object.is_list())
      items.push_back(object.list()[static_cast<size_t>(begin)]);
    else
      step(e.line, cost(object)), text += substring(object.string(), begin, begin + 1);
    if (stride > n || stride < -n) break;
  }
  return object.is_list() ? Value(std::move(items)) : Value(std::move(text));
}

Evaluator::Arguments Evaluator::arguments(const Expr& e, size_t from) {
  Arguments args;
  for (size_t i = from; i < e.args.size(); ++i) args.positional.push_back(eval(*e.args[i]));
  for (const auto& [name, value] : e.named) args.named.emplace_back(name, eval(*value));
  return args;
}

Value Evaluator::call(const Expr& e) {
  const Value callee = eval(*e.args[0]);
  if (callee.is<MacroRef>()) return call_macro(*std::get<MacroRef>(callee.data).macro, e);
  const Arguments args = arguments(e, 1);
  if (callee.is<Builtin>()) return function(std::get<Builtin>(callee.data).name, args, e.line);
  if (callee.is<Method>()) {
    const auto& m = std::get<Method>(callee.data);
    Value result = method(*m.object, m.name, args, e.line);
    if (result.is_list()) check_nesting(result, nullptr, 0, e.line);
    return result;
  }
  throw Failure{"'" + (e.args[0]->text.empty() ? std::string(type_name(callee)) : e.args[0]->text) +
                    "' is not a function",
                e.line};
}

Value Evaluator::call_macro(const MacroNode& macro, const Expr& e) {
  const Arguments args = arguments(e, 1);
  if (++calls > kMostCalls) throw Failure{"macros call each other too deeply", e.line, false, true};
  // A macro sees the template's names, not its caller's.
  std::vector<std::map<std::string, Value>> callers(std::make_move_iterator(scopes.begin() + 1),
                                                    std::make_move_iterator(scopes.end()));
  scopes.resize(1);
  scopes.emplace_back();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, absent] = macro.parameters[i];
    const Value* given = args.get(i, name);
    scopes.back()[name] = given ? *given : absent ? eval(*absent) : Value();
  }
  std::string text = capture(macro.body);
  scopes.resize(1);
  scopes.insert(scopes.end(), std::make_move_iterator(callers.begin()),
                std::make_move_iterator(callers.end()));
  --calls;
  return Value(std::move(text));
}

List Evaluator::sequence(const Value& v, int line) {
  step(line, cost(v));
  if (v.is_list()) return v.list();
  List items;
  if (v.is_dict()) {
    step(line, kItemSteps * static_cast<int64_t>(v.dict().size()));
    for (const auto& [key, value] : v.dict()) items.emplace_back(key);
  } else if (v.is_string()) {
    const int64_t n = code_points(v.string());
    if (n > 100000) throw Failure{"a loop over the characters of a long text", line, false, true};
    step(line, kItemSteps * n);
    std::string character;
    for (const char c : v.string()) {
      if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && !character.empty())
        items.emplace_back(std::exchange(character, {}));
      character += c;
    }
    if (!character.empty()) items.emplace_back(character);
  } else if (!v.is<Undefined>()) {
    throw Failure{std::string("a ") + type_name(v) + " cannot be looped over", line};
  }
  return items;
}

}  // namespace linnet::text::jinja
