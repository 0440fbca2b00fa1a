#include <algorithm>
#include <array>
#include <ctime>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"

namespace linnet::text::jinja {

Value Evaluator::call(const Value& callee, Arguments& args) {
  stack.check();
  step();
  if (callee.undefined()) {
    const auto& what = std::get<Undefined>(callee.data).what;
    fail_with(strf("something undefined is called{}", what ? strf(": {}", *what) : std::string()));
  }
  if (!callee.object()) fail_with(strf("a {} cannot be called", type_name(callee)));
  Object& o = callee.obj();
  switch (o.kind) {
    case Object::kMacro:
      return call_macro(static_cast<Macro&>(o), args);
    case Object::kMethod:
      return method(static_cast<Method&>(o), args);
    case Object::kFunction:
      return call_function(static_cast<Function&>(o).name, args);
    case Object::kLoop: {
      auto& loop = static_cast<Loop&>(o);
      constexpr const char* kNames[] = {"iterable"};
      const Bound bound = bind_arguments("loop", args, kNames, 1);
      if (!loop.recursive) fail_with("'loop' is called, and its loop is not marked 'recursive'");
      return run_recursive(*loop.recursive, *bound[0], loop.around, loop.depth0 + 1);
    }
    case Object::kJoiner: {
      auto& joiner = static_cast<Joiner&>(o);
      bind_arguments("joiner", args, {}, 0);
      return std::exchange(joiner.used, true) ? joiner.separator : heap.text("");
    }
    default:
      fail_with(strf("a {} cannot be called", type_name(callee)));
  }
}

Value Evaluator::call_macro(const Macro& macro, Arguments& args) {
  const FunctionNode& node = *macro.node;
  const std::string called = node.name.empty() ? "the body of a call" : strf("the macro '{}'", node.name);
  const ActivationPtr function = activate(node, macro.around);
  const auto place = [&](int slot) -> Value& { return function->slots[static_cast<size_t>(slot)]; };
  const size_t count = node.parameters.size(), given_items = std::min(args.items.size(), count);
  for (size_t i = 0; i < given_items; ++i) place(node.parameters[i].slot) = args.items[i];
  const auto pop = [&](const std::string& name) {
    Value v;  // missing
    const auto it = std::ranges::find(args.named, name, &std::pair<std::string, Value>::first);
    if (it == args.named.end()) return v;
    v = std::move(it->second);
    args.named.erase(it);
    return v;
  };
  bool found_caller = given_items == count && node.caller == -2;
  for (size_t i = given_items; i < count; ++i) {
    place(node.parameters[i].slot) = pop(node.parameters[i].name);
    if (node.parameters[i].name == "caller") found_caller = true;
  }
  if (node.caller >= 0 && !found_caller) {
    Value caller = pop("caller");
    if (caller.missing() || caller.none()) caller = undefined("there is no caller");
    place(node.caller) = std::move(caller);
  }
  if (node.kwargs >= 0) {
    Dict rest;
    for (auto& [name, value] : args.named) rest.set(heap.text(name), value);
    place(node.kwargs) = heap.dict(std::move(rest));
  } else if (!args.named.empty()) {
    fail_with(strf("{} has no argument '{}'", called, args.named[0].first));
  }
  if (node.varargs >= 0)
    place(node.varargs) =
        heap.tuple(List(args.items.begin() + static_cast<std::ptrdiff_t>(given_items), args.items.end()));
  else if (args.items.size() > count)
    fail_with(strf("{} takes at most {} arguments", called, count));

  const ActivationPtr outer = std::exchange(here, function);
  Value text = captured([&] {
    enter(node.scope);
    for (const auto& p : node.parameters) {
      if (!place(p.slot).missing()) continue;
      place(p.slot) =
          p.absent ? eval(*p.absent) : undefined(strf("the parameter '{}' was not given", p.name));
    }
    run(node.body);
  });
  here = outer;
  return text;
}

void Evaluator::set_attribute(Namespace& ns, const std::string& name, Value value) {
  if (name.starts_with('_')) fail_with(strf("a namespace of a chat template cannot hold '{}'", name));
  if (value.object() && value.obj().kind == Object::kLoop) unsupported("a namespace that holds 'loop'");
  if (value.depth() > kMostNesting - 2) out_of_bound("its values are nested too deeply");
  if (Value* old = ns.find(name)) {
    *old = std::move(value);
    return;
  }
  step(static_cast<int64_t>(ns.attributes.size() / 4));
  ns.charge(&account, sizeof(std::pair<std::string, Value>) + name.size() + 16);
  ns.attributes.emplace_back(name, std::move(value));
}

// The entries that dict(mapping or pairs, **named) has.
static Dict dict_of(Evaluator& e, Arguments& args, const char* function) {
  if (args.items.size() > 1) fail_with(strf("{} takes at most 1 argument", function));
  Dict dict;
  if (!args.items.empty()) {
    const Value& first = args.items[0];
    if (first.undefined()) fail_with(strf("{} of something undefined", function));
    if (first.dict()) {
      for (const auto& [key, value] : first.map().entries) e.step_key(key), e.step(), dict.set(key, value);
    } else if (first.object() && first.obj().kind == Object::kNamespace) {
      fail_with("a Namespace cannot be walked");
    } else {
      const IteratorPtr it = e.iterate(first);
      while (auto pair = it->next(e)) {
        e.step();
        List two = e.all_of(*pair);
        if (two.size() != 2) fail_with("an item of what makes a dict is no pair");
        e.step_key(two[0]);
        dict.set(std::move(two[0]), std::move(two[1]));
      }
    }
  }
  for (auto& [name, value] : args.named) dict.set(e.heap.text(name), std::move(value));
  return dict;
}

Value Evaluator::make_namespace(Arguments& args) {
  Dict dict = dict_of(*this, args, "namespace");
  auto ns = heap.object(std::make_shared<Namespace>(), 1);
  namespaces.push_back(ns);
  for (auto& [key, value] : dict.entries) {
    if (!key.text()) unsupported("a namespace with a name that is no text");
    set_attribute(*ns, key.bytes(), std::move(value));
  }
  return Value(ObjectPtr(std::move(ns)));
}

static Value range_of(Evaluator& e, const Arguments& args) {
  constexpr const char* kNames[] = {"start", "stop", "step"};
  if (!args.named.empty()) fail_with("range takes no named arguments");
  const Bound bound = bind_arguments("range", args, kNames, 1);
  const int64_t first = whole(*bound[0]);
  const int64_t start = bound[1] ? first : 0, stop = bound[1] ? whole(*bound[1]) : first;
  const int64_t by = bound[2] ? whole(*bound[2]) : 1;
  if (by == 0) fail_with("the step of a range cannot be zero");
  auto range = e.heap.object(std::make_shared<Range>(start, stop, by), 1);
  if (range->length() > 100000 || range->length() < 0)
    fail_with("the sandbox allows ranges of at most 100000 items");
  return Value(ObjectPtr(std::move(range)));
}

static Value strftime_now(Evaluator& e, const Arguments& args) {
  constexpr const char* kNames[] = {"format"};
  const Value format = *bind_arguments("strftime_now", args, kNames, 1)[0];
  if (!format.text()) fail_with("strftime_now needs a text");
  const auto now = static_cast<std::time_t>(e.now < 0 ? static_cast<int64_t>(std::time(nullptr)) : e.now);
  std::tm local{};
  localtime_r(&now, &local);
  if (format.bytes().empty()) return e.heap.text("");
  if (format.bytes().size() > 1000) unsupported("a date format of more than 1000 bytes");
  std::string out(format.bytes().size() * 64 + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.bytes().c_str(), &local));
  return e.heap.text(std::move(out));
}

Value Evaluator::call_function(const std::string& name, Arguments& args) {
  if (name == "namespace") return make_namespace(args);
  if (name == "dict") return heap.dict(dict_of(*this, args, "dict"));
  if (name == "range") return range_of(*this, args);
  if (name == "strftime_now") return strftime_now(*this, args);
  if (name == "raise_exception") {
    constexpr const char* kNames[] = {"message"};
    const Value message = text_of(*bind_arguments("raise_exception", args, kNames, 1)[0]);
    throw Failure{message.bytes(), line, Failure::kRaised};
  }
  if (name == "joiner") {
    constexpr const char* kNames[] = {"sep"};
    const Bound bound = bind_arguments("joiner", args, kNames, 0);
    auto joiner = heap.object(std::make_shared<Joiner>(), bound[0] ? bound[0]->depth() + 1 : 1);
    joiner->separator = bound[0] ? *bound[0] : heap.text(", ");
    return Value(ObjectPtr(std::move(joiner)));
  }
  if (name == "cycler") {
    if (!args.named.empty()) fail_with("cycler takes no named arguments");
    if (args.items.empty()) fail_with("cycler needs at least one item");
    const Value items = heap.tuple(args.items);
    auto cycler = heap.object(std::make_shared<Cycler>(), items.depth() + 1);
    cycler->items = items.items();
    return Value(ObjectPtr(std::move(cycler)));
  }
  unsupported(strf("the function '{}'", name));
}

}  // namespace linnet::text::jinja
