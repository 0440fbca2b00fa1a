// Methods of lists, dicts, numbers, loops and the like, and the tests behind `is`.
#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/template_text.h"

namespace linnet::text::jinja {
namespace {

Value sequence_method(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  if (name == "copy") {
    bind_arguments("copy", args, {}, 0);
    return e.heap.list(e.all_of(object));
  }
  constexpr const char* kNames[] = {"value", "start", "stop"};
  const bool index = name == "index";
  const Bound bound = bind_arguments(name.c_str(), args, std::span(kNames).first(index ? 3 : 1), 1);
  const int64_t n = e.length(object);
  const auto clamp = [&](const Value* v, int64_t absent) {
    if (!v) return absent;
    const int64_t i = whole(*v);
    return std::clamp(i < 0 ? i + n : i, int64_t{0}, n);
  };
  int64_t count = 0, at = 0;
  const int64_t begin = clamp(bound[1], 0), end = clamp(bound[2], n);
  const IteratorPtr it = e.iterate(object);
  while (auto v = it->next(e)) {
    e.step();
    const int64_t here = at++;
    if (index && (here < begin || here >= end)) continue;
    if (!identical(*v, *bound[0]) && !e.same(*v, *bound[0])) continue;
    if (index) return Value(here);
    ++count;
  }
  if (index) fail_with("a value is not in the list");
  return Value(count);
}

Value from_keys(Evaluator& e, const Arguments& args) {
  constexpr const char* kNames[] = {"iterable", "value"};
  if (!args.named.empty()) fail_with("fromkeys takes no named arguments");
  const Bound bound = bind_arguments("fromkeys", args, kNames, 1);
  Dict dict;
  const IteratorPtr it = e.iterate(*bound[0]);
  while (auto v = it->next(e)) {
    e.step();
    e.step_key(*v);
    dict.set(std::move(*v), bound[1] ? *bound[1] : Value(None{}));
  }
  return e.heap.dict(std::move(dict));
}

Value dict_method(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  if (name == "fromkeys") return from_keys(e, args);
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  if (name == "get") {
    constexpr const char* kNames[] = {"key", "default"};
    const Bound bound = bind_arguments("get", args, kNames, 1);
    e.step_key(*bound[0]);
    const Value* found = object.map().find(*bound[0]);
    return found ? *found : bound[1] ? *bound[1] : Value(None{});
  }
  bind_arguments(name.c_str(), args, {}, 0);
  if (name == "copy") return object;  // nothing changes a dict
  const View::Part part = name == "keys" ? View::kKeys : name == "values" ? View::kValues : View::kItems;
  return Value(ObjectPtr(
      e.heap.object(std::make_shared<View>(std::get<DictPtr>(object.data), part), object.depth() + 1)));
}

Value number_method(const Value& object, const std::string& name, const Arguments& args) {
  bind_arguments(name.c_str(), args, {}, 0);
  if (name == "conjugate") return object.boolean() ? Value(object.integer()) : object;
  if (name == "is_integer")
    return Value(std::isfinite(object.as_real()) && object.as_real() == std::floor(object.as_real()));
  if (object.integral() && (name == "bit_length" || name == "bit_count")) {
    const int64_t i = object.integer();
    const uint64_t magnitude = i < 0 ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
    return Value(name == "bit_length" ? static_cast<int64_t>(std::bit_width(magnitude))
                                      : int64_t{std::popcount(magnitude)});
  }
  unsupported(strf("the method '{}' of a number", name));
}

Value loop_method(Evaluator& e, Loop& loop, const std::string& name, const Arguments& args) {
  if (!args.named.empty()) fail_with(strf("loop.{} takes no named arguments", name));
  if (name == "cycle") {
    if (args.items.empty()) fail_with("loop.cycle needs items");
    return args.items[static_cast<size_t>(loop.index0) % args.items.size()];
  }
  const Value now = e.heap.tuple(args.items);
  if (loop.was_changed && e.same(loop.last_changed, now)) return Value(false);
  loop.was_changed = true;
  loop.last_changed = now;
  return Value(true);
}

Value cycler_method(Cycler& cycler, const std::string& name, const Arguments& args) {
  bind_arguments(name.c_str(), args, {}, 0);
  if (name == "reset") {
    cycler.at = 0;
    return Value(None{});
  }
  const size_t now = cycler.at;
  cycler.at = (now + 1) % cycler.items.size();
  return cycler.items[now];
}

}  // namespace

Value Evaluator::method(const Method& m, Arguments& args) {
  const Value& o = m.object;
  if (o.text()) return text_method(o, m.name, args);
  if (o.sequence()) return sequence_method(*this, o, m.name, args);
  if (o.dict()) return dict_method(*this, o, m.name, args);
  if (o.number()) return number_method(o, m.name, args);
  switch (o.obj().kind) {
    case Object::kLoop:
      return loop_method(*this, static_cast<Loop&>(o.obj()), m.name, args);
    case Object::kCycler:
      return cycler_method(static_cast<Cycler&>(o.obj()), m.name, args);
    case Object::kRange:
      return sequence_method(*this, o, m.name, args);
    case Object::kView: {
      constexpr const char* kNames[] = {"other"};
      const Value& other = *bind_arguments("isdisjoint", args, kNames, 1)[0];
      const IteratorPtr it = iterate(other);
      while (auto v = it->next(*this)) {
        step();
        hash_of(*v);
        if (contains(o, *v)) return Value(false);
      }
      return Value(true);
    }
    default:
      return from_keys(*this, args);  // dict.fromkeys
  }
}

// ---- tests ----
namespace {

constexpr const char* kPlainTests[] = {"odd",      "even",     "defined", "undefined", "filter",  "test",
                                       "none",     "boolean",  "false",   "true",      "integer", "float",
                                       "lower",    "upper",    "string",  "mapping",   "number",  "sequence",
                                       "iterable", "callable", "escaped"};
struct TestName {
  const char *name, *op;
};
constexpr TestName kComparisonTests[] = {
    {"==", "=="}, {"eq", "=="}, {"equalto", "=="},    {"!=", "!="}, {"ne", "!="},
    {">", ">"},   {"gt", ">"},  {"greaterthan", ">"}, {"ge", ">="}, {">=", ">="},
    {"<", "<"},   {"lt", "<"},  {"lessthan", "<"},    {"<=", "<="}, {"le", "<="}};

bool is_mapping_or_walkable(const Value& v) {
  return v.text() || v.sequence() || v.dict() || v.undefined() ||
         (v.object() && (v.obj().kind == Object::kRange || v.obj().kind == Object::kView ||
                         v.obj().kind == Object::kIterator || v.obj().kind == Object::kLoop));
}

}  // namespace

bool is_test(std::string_view name) {
  return name == "divisibleby" || name == "sameas" || name == "in" ||
         std::ranges::find(kPlainTests, name) != std::end(kPlainTests) ||
         std::ranges::find(kComparisonTests, name, [](const TestName& t) {
           return std::string_view(t.name);
         }) != std::end(kComparisonTests);
}

bool Evaluator::test(const std::string& name, const Value& v, Arguments& args) {
  const auto other = std::ranges::find(kComparisonTests, name, &TestName::name);
  if (other != std::end(kComparisonTests) || name == "in" || name == "sameas" || name == "divisibleby") {
    constexpr const char* kNames[] = {"other"};
    constexpr const char* kSequence[] = {"seq"};
    constexpr const char* kNumber[] = {"num"};
    const Value& b = *bind_arguments(name.c_str(), args,
                                     name == "in"            ? kSequence
                                     : name == "divisibleby" ? kNumber
                                                             : kNames,
                                     1)[0];
    if (other != std::end(kComparisonTests)) return compare(other->op, v, b);
    if (name == "in") return contains(b, v);
    if (name == "sameas") return identical(v, b);
    return equal(binary("%", v, b), Value(int64_t{0}));
  }
  if (!is_test(name)) fail_with(strf("there is no test '{}'", name));
  bind_arguments(name.c_str(), args, {}, 0);
  if (name == "defined") return !v.undefined();
  if (name == "undefined") return v.undefined();
  if (name == "none") return v.none();
  if (name == "string") return v.text();
  if (name == "boolean") return v.boolean();
  if (name == "true") return v.boolean() && v.integer();
  if (name == "false") return v.boolean() && !v.integer();
  if (name == "integer") return v.is<int64_t>();
  if (name == "float") return v.real();
  if (name == "number") return v.number();
  if (name == "mapping") return v.dict();
  if (name == "odd" || name == "even")
    return equal(binary("%", v, Value(int64_t{2})), Value(int64_t{name == "odd"}));
  if (name == "lower" || name == "upper") return is_cased_as(*this, text_of(v).bytes(), name == "upper");
  if (name == "sequence")
    return v.undefined() || v.text() || v.sequence() || v.dict() ||
           (v.object() && v.obj().kind == Object::kRange);
  if (name == "iterable") return is_mapping_or_walkable(v);
  if (name == "callable") {
    if (v.undefined()) return true;  // it has __call__, which fails
    if (!v.object()) return false;
    const Object::Kind kind = v.obj().kind;
    return kind == Object::kMacro || kind == Object::kFunction || kind == Object::kMethod ||
           kind == Object::kLoop || kind == Object::kJoiner;
  }
  if (name == "escaped") return v.text() && v.str().markup;
  const std::string key = v.text() ? v.bytes() : (hash_of(v), std::string());
  return name == "filter" ? is_filter(key) || is_unsupported_filter(key) : is_test(key);
}

}  // namespace linnet::text::jinja
