// Attributes and items, in the order in which Jinja's sandbox looks for them.
#include <algorithm>
#include <bit>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

template <size_t N>
bool one_of(std::string_view name, const char* const (&names)[N]) {
  return std::ranges::find(names, name) != std::end(names);
}

// What the sandbox of chat templates hides: it would change the object.
constexpr const char* kListChanges[] = {"append", "clear", "pop",    "reverse",
                                        "insert", "sort",  "extend", "remove"};
constexpr const char* kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr const char* kListMethods[] = {"index", "count", "copy"};
constexpr const char* kTupleMethods[] = {"index", "count"};
constexpr const char* kDictMethods[] = {"get", "items", "keys", "values", "copy", "fromkeys"};
constexpr const char* kIntMethods[] = {"conjugate",        "bit_length", "bit_count",
                                       "as_integer_ratio", "to_bytes",   "from_bytes"};
constexpr const char* kFloatMethods[] = {"conjugate", "is_integer", "as_integer_ratio", "hex", "fromhex"};

std::optional<Value> loop_attribute(Evaluator& e, const Value& object, const std::string& name) {
  auto& loop = static_cast<Loop&>(object.obj());
  const int64_t index = loop.index0 + 1;
  if (name == "index") return Value(index);
  if (name == "index0") return Value(loop.index0);
  if (name == "length") return Value(loop.length(e));
  if (name == "revindex") return Value(loop.length(e) - loop.index0);
  if (name == "revindex0") return Value(loop.length(e) - index);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "last") return Value(!loop.peek(e));
  if (name == "depth") return Value(int64_t{loop.depth0} + 1);
  if (name == "depth0") return Value(int64_t{loop.depth0});
  if (name == "previtem") return loop.index0 == 0 ? undefined("there is no previous item") : loop.before;
  if (name == "nextitem") return loop.peek(e) ? *loop.after : undefined("there is no next item");
  if (name == "cycle" || name == "changed")
    return Value(ObjectPtr(e.heap.object(std::make_shared<Method>(object, name), 1)));
  return std::nullopt;
}

std::optional<Value> object_attribute(Evaluator& e, const Value& object, const std::string& name) {
  Object& o = object.obj();
  switch (o.kind) {
    case Object::kNamespace:
      if (const Value* v = static_cast<Namespace&>(o).find(name)) return *v;
      return std::nullopt;
    case Object::kLoop:
      return loop_attribute(e, object, name);
    case Object::kRange: {
      const auto& r = static_cast<Range&>(o);
      if (name == "start") return Value(r.start);
      if (name == "stop") return Value(r.stop);
      if (name == "step") return Value(r.step);
      if (name == "count" || name == "index") break;
      return std::nullopt;
    }
    case Object::kView:
      if (name == "mapping") return Value(static_cast<View&>(o).dict);
      if (name == "isdisjoint" && static_cast<View&>(o).part != View::kValues) break;
      return std::nullopt;
    case Object::kMacro: {
      const FunctionNode& node = *static_cast<Macro&>(o).node;
      if (name == "name") return node.name.empty() ? Value(None{}) : e.heap.text(node.name);
      if (name == "arguments") {
        List names;
        for (const auto& p : node.parameters) names.push_back(e.heap.text(p.name));
        return e.heap.tuple(std::move(names));
      }
      if (name == "catch_kwargs") return Value(node.kwargs >= 0);
      if (name == "catch_varargs") return Value(node.varargs >= 0);
      if (name == "caller") return Value(node.caller != -1);
      return std::nullopt;
    }
    case Object::kCycler: {
      auto& c = static_cast<Cycler&>(o);
      if (name == "current") return c.items[c.at];
      if (name == "pos") return Value(static_cast<int64_t>(c.at));
      if (name == "items") return e.heap.tuple(c.items);
      if (name == "next" || name == "reset") break;
      return std::nullopt;
    }
    case Object::kJoiner:
      if (name == "sep") return static_cast<Joiner&>(o).separator;
      if (name == "used") return Value(static_cast<Joiner&>(o).used);
      return std::nullopt;
    case Object::kFunction:
      if (static_cast<Function&>(o).name == "dict" && name == "fromkeys") break;
      return std::nullopt;
    default:
      return std::nullopt;
  }
  return Value(ObjectPtr(e.heap.object(std::make_shared<Method>(object, name), object.depth() + 1)));
}

// What Python's getattr() finds; nothing where it raises AttributeError. `hidden`: found, but the sandbox
// gives something undefined for it.
std::optional<Value> python_attribute(Evaluator& e, const Value& object, const std::string& name,
                                      bool& hidden) {
  const auto bound = [&] {
    return Value(ObjectPtr(e.heap.object(std::make_shared<Method>(object, name), object.depth() + 1)));
  };
  if (object.text()) {
    if (is_text_method(name)) return bound();
  } else if (object.list()) {
    if (one_of(name, kListMethods)) return bound();
    hidden = one_of(name, kListChanges);
  } else if (object.tuple()) {
    if (std::get<ListPtr>(object.data)->group) {
      if (name == "grouper") return object.items()[0];
      if (name == "list") return object.items()[1];
    }
    if (one_of(name, kTupleMethods)) return bound();
  } else if (object.dict()) {
    if (one_of(name, kDictMethods)) return bound();
    hidden = one_of(name, kDictChanges);
  } else if (object.integral()) {
    if (name == "real" || name == "numerator") return Value(object.integer());
    if (name == "imag") return Value(int64_t{0});
    if (name == "denominator") return Value(int64_t{1});
    if (one_of(name, kIntMethods)) return bound();
  } else if (object.real()) {
    if (name == "real") return object;
    if (name == "imag") return Value(0.0);
    if (one_of(name, kFloatMethods)) return bound();
  } else if (object.object()) {
    return object_attribute(e, object, name);
  }
  return std::nullopt;
}

[[noreturn]] void fail_undefined(const Value& v, const std::string& name) {
  const auto& what = std::get<Undefined>(v.data).what;
  fail_with(strf("'{}' of something undefined{}", name, what ? strf(": {}", *what) : std::string()));
}

Value no_attribute(const Value& object, const std::string& name) {
  return undefined(strf("a {} has no attribute '{}'", type_name(object), name));
}

}  // namespace

Value Evaluator::attribute(const Value& object, const std::string& name) {
  if (object.undefined()) fail_undefined(object, name);
  bool hidden = false;
  if (auto found = python_attribute(*this, object, name, hidden)) return std::move(*found);
  if (hidden)
    return undefined(strf("the sandbox hides '{}' of a {}, which would change it", name, type_name(object)));
  if (object.dict())
    if (const Value* v = object.map().find(name)) return *v;
  return no_attribute(object, name);
}

Value Evaluator::item(const Value& object, const Value& key) {
  if (object.undefined()) fail_undefined(object, key.text() ? key.bytes() : "an item");
  if (object.dict()) {
    const bool hashable = !key.sequence() && !key.dict();
    step_key(key);
    if (hashable || key.tuple()) {
      try {
        if (const Value* v = object.map().find(key)) return *v;
      } catch (const Failure& failure) {
        if (failure.kind != Failure::kError)
          throw;  // a tuple that holds a list has no hash: nothing is found
      }
    }
  } else if (key.integral()) {
    int64_t i = key.integer();
    const bool range = object.object() && object.obj().kind == Object::kRange;
    if (object.text() || object.sequence() || range) {
      const int64_t n = length(object);
      if (i < 0) i += n;
      if (i < 0 || i >= n)
        return undefined(strf("a {} of {} items has no item {}", type_name(object), n, key.integer()));
      if (range) return Value(static_cast<const Range&>(object.obj()).at(i));
      if (object.sequence()) return object.items()[static_cast<size_t>(i)];
      const Text& t = object.str();
      step_bytes(t.bytes.size());
      TextBuilder out;
      const size_t begin = byte_of(t.bytes, i);
      out.add(t, begin, begin + byte_of(std::string_view(t.bytes).substr(begin), 1));
      return out.value(heap, t.markup);
    }
  }
  if (!key.text()) return undefined(strf("a {} has no such item", type_name(object)));
  bool hidden = false;
  if (auto found = python_attribute(*this, object, key.bytes(), hidden)) return std::move(*found);
  return no_attribute(object, key.bytes());
}

// "a.b.0" as the filters take it: parts of digits are numbers.
Value Evaluator::attribute_path(Value object, const Value& path, const Value* absent) {
  const auto get = [&](const Value& key) {
    step();
    object = item(object, key);
    if (absent && object.undefined()) object = *absent;
  };
  if (path.none()) return object;
  if (!path.text()) {
    get(path);
    return object;
  }
  const std::string& text = path.bytes();
  for (size_t begin = 0;;) {
    const size_t dot = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, dot - begin);
    const bool digits =
        !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    get(digits ? Value(parse_int(part, 10).value_or(0)) : heap.text(part));
    if (dot == text.size()) return object;
    begin = dot + 1;
  }
}

}  // namespace linnet::text::jinja
