#include <algorithm>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"

namespace linnet::text::jinja {

namespace {

// What Jinja can write down as a constant.
bool is_plain(const Value& v) {
  if (v.undefined() || v.object()) return false;
  if (v.sequence()) return std::ranges::all_of(v.items(), is_plain);
  if (v.dict())
    return std::ranges::all_of(v.map().entries,
                               [](const auto& e) { return is_plain(e.first) && is_plain(e.second); });
  return true;
}

}  // namespace

// Jinja works out constant expressions in advance, and there a slice is an item like any other: what has none
// gives something undefined instead of an error.
std::optional<Value> Evaluator::folded(const Expr& e) {
  std::optional<Value> v;
  folding_ = true;
  try {
    v = eval(e);
  } catch (const Failure& failure) {
    if (failure.kind != Failure::kError) throw;  // an error is one again when it is not folded
  }
  folding_ = false;
  return v;
}

Value Evaluator::eval(const Expr& e) {
  stack.check();
  line = e.line;
  step();
  if (folding_ && !e.constant) fail_with("no constant");
  if (e.constant && e.slices && !folding_ && e.kind != ExprKind::kList && e.kind != ExprKind::kTuple &&
      e.kind != ExprKind::kDict && e.kind != ExprKind::kSlice)
    if (auto v = folded(e); v && is_plain(*v)) return *v;
  switch (e.kind) {
    case ExprKind::kConstant:
      return e.value;
    case ExprKind::kName:
    case ExprKind::kStore:
    case ExprKind::kAttribute:
      return eval_name(e);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return eval_list(e);
    case ExprKind::kDict:
      return eval_dict(e);
    case ExprKind::kNot:
      return Value(!truthy(eval(*e.items[0])));
    case ExprKind::kNegate:
    case ExprKind::kPlus: {
      const Value v = eval(*e.items[0]);
      line = e.line;
      if (!v.number()) fail_with(strf("a {} has no sign", type_name(v)));
      if (e.kind == ExprKind::kPlus) return v.boolean() ? Value(v.integer()) : v;
      return negated(v);
    }
    case ExprKind::kAnd: {
      Value v = eval(*e.items[0]);
      return truthy(v) ? eval(*e.items[1]) : v;
    }
    case ExprKind::kOr: {
      Value v = eval(*e.items[0]);
      return truthy(v) ? v : eval(*e.items[1]);
    }
    case ExprKind::kConditional:
      if (truthy(eval(*e.items[0]))) return eval(*e.items[1]);
      if (e.items[2]) return eval(*e.items[2]);
      if (folding_) fail_with("no constant");
      return undefined("an inline 'if' whose condition was false, without 'else'");
    case ExprKind::kBinary:
      return eval_binary(e);
    case ExprKind::kConcat:
      return eval_concat(e);
    case ExprKind::kCompare:
      return eval_compare(e);
    case ExprKind::kGetattr: {
      const Value object = eval(*e.items[0]);
      line = e.line;
      return attribute(object, e.text);
    }
    case ExprKind::kGetitem:
      return eval_getitem(e);
    case ExprKind::kSlice:
      return eval_slice(e);
    case ExprKind::kCall:
      return eval_call(e);
    case ExprKind::kFilter:
      return eval_filter(e, nullptr);
    case ExprKind::kTest:
      return eval_test(e);
  }
  return {};
}

Value Evaluator::eval_name(const Expr& e) {
  const Value& v = slot(e.slot);
  return v.missing() ? undefined(strf("'{}' is undefined", e.text)) : v;
}

Value Evaluator::eval_list(const Expr& e) {
  List items;
  items.reserve(e.items.size());
  for (const ExprPtr& item : e.items) items.push_back(eval(*item));
  line = e.line;
  return e.kind == ExprKind::kList ? heap.list(std::move(items)) : heap.tuple(std::move(items));
}

Value Evaluator::eval_dict(const Expr& e) {
  Dict dict;
  for (size_t i = 0; i < e.items.size(); i += 2) {
    Value key = eval(*e.items[i]);
    Value value = eval(*e.items[i + 1]);
    line = e.line;
    step_key(key);
    dict.set(std::move(key), std::move(value));
  }
  return heap.dict(std::move(dict));
}

Value Evaluator::eval_binary(const Expr& e) {
  const Value a = eval(*e.items[0]), b = eval(*e.items[1]);
  line = e.line;
  return binary(e.text, a, b);
}

Value Evaluator::eval_concat(const Expr& e) {
  List values;
  for (const ExprPtr& item : e.items) values.push_back(eval(*item));
  line = e.line;
  TextBuilder text;
  for (const Value& v : values) write(text, v);
  return text.value(heap);
}

Value Evaluator::eval_compare(const Expr& e) {
  Value left = eval(*e.items[0]);
  for (size_t i = 0; i < e.ops.size(); ++i) {
    Value right = eval(*e.items[i + 1]);
    line = e.line;
    if (!compare(e.ops[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::eval_getitem(const Expr& e) {
  const Value object = eval(*e.items[0]), key = eval(*e.items[1]);
  line = e.line;
  return item(object, key);
}

Value Evaluator::eval_slice(const Expr& e) {
  const Value object = eval(*e.items[0]);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) bounds[i] = e.items[i + 1] ? eval(*e.items[i + 1]) : Value(None{});
  line = e.line;
  const bool zero = bounds[2].integral() && bounds[2].integer() == 0;
  if (!folding_ || zero || object.undefined()) return slice(object, bounds[0], bounds[1], bounds[2]);
  try {
    return slice(object, bounds[0], bounds[1], bounds[2]);
  } catch (const Failure& failure) {
    if (failure.kind != Failure::kError) throw;
    return undefined("a slice of what has none");
  }
}

Arguments Evaluator::arguments(const Expr& e, size_t from) {
  Arguments args;
  for (size_t i = from; i < e.items.size(); ++i) args.items.push_back(eval(*e.items[i]));
  for (const auto& [key, value] : e.named) args.named.emplace_back(key, eval(*value));
  if (e.more_items) {
    const IteratorPtr more = iterate(eval(*e.more_items));
    while (auto v = more->next(*this)) {
      step();
      args.items.push_back(std::move(*v));
    }
  }
  if (e.more_named) {
    const Value more = eval(*e.more_named);
    if (!more.dict()) fail_with("behind '**' a dict is expected");
    for (const auto& [key, value] : more.map().entries) {
      step();
      if (!key.text()) fail_with("the names of arguments must be texts");
      if (std::ranges::find(args.named, key.bytes(), &std::pair<std::string, Value>::first) !=
          args.named.end())
        fail_with(strf("the argument '{}' is given twice", key.bytes()));
      args.named.emplace_back(key.bytes(), value);
    }
  }
  line = e.line;
  return args;
}

Value Evaluator::eval_call(const Expr& e) {
  const Value callee = eval(*e.items[0]);
  Arguments args = arguments(e, 1);
  return call(callee, args);
}

Value Evaluator::eval_filter(const Expr& e, const Value* captured) {
  // The innermost filter of a block's chain has no value of its own.
  const Value v = !e.items[0]                             ? *captured
                  : e.items[0]->kind == ExprKind::kFilter ? eval_filter(*e.items[0], captured)
                                                          : eval(*e.items[0]);
  Arguments args = arguments(e, 1);
  step();
  return filter(e.text, v, args);
}

Value Evaluator::eval_test(const Expr& e) {
  const Value v = eval(*e.items[0]);
  Arguments args = arguments(e, 1);
  return Value(test(e.text, v, args));
}

Value Evaluator::resolve(const std::string& name) {
  if (const auto it = given.find(name); it != given.end()) return it->second;
  for (const char* function :
       {"range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now", "lipsum"})
    if (name == function) return Value(ObjectPtr(heap.object(std::make_shared<Function>(name), 1)));
  return {};
}

// ---- arguments of Python functions ----
Bound bind_arguments(const char* function, const Arguments& args, std::span<const char* const> names,
                     size_t required) {
  Bound bound{};
  if (args.items.size() > names.size())
    fail_with(strf("{} takes at most {} arguments", function, names.size()));
  for (size_t i = 0; i < args.items.size(); ++i) bound[i] = &args.items[i];
  for (const auto& [name, value] : args.named) {
    const auto it = std::ranges::find_if(names, [&](const char* n) { return name == n; });
    if (it == names.end()) fail_with(strf("{} has no argument '{}'", function, name));
    const auto i = static_cast<size_t>(it - names.begin());
    if (bound[i]) fail_with(strf("{}: the argument '{}' is given twice", function, name));
    bound[i] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!bound[i]) fail_with(strf("{} needs the argument '{}'", function, names[i]));
  return bound;
}

int64_t whole(const Value& v) {
  if (!v.integral()) fail_with(strf("a {} stands where an integer is expected", type_name(v)));
  return v.integer();
}

}  // namespace linnet::text::jinja
