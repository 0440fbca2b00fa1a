#include "runtime/text/template_filters.h"

#include <algorithm>

#include "runtime/core/strings.h"
#include "runtime/text/template_numbers.h"

namespace linnet::text::jinja {
namespace {

Value mapped(Evaluator& e, const Value& v, Arguments& args, const std::string&) {
  return e.wrapped(
      e.generator(v.depth() + 1,
                  [v, args, it = IteratorPtr(), path = Value(), absent = Value(),
                   by_attribute = false](Evaluator& e2) mutable -> std::optional<Value> {
                    if (!it) {
                      if (!truthy(v)) return std::nullopt;
                      by_attribute = args.items.empty() && std::ranges::any_of(args.named, [](const auto& n) {
                                       return n.first == "attribute";
                                     });
                      if (by_attribute) {
                        constexpr const char* kNames[] = {"attribute", "default"};
                        const Bound bound = bind_arguments("map", args, kNames, 1);
                        path = *bound[0];
                        if (bound[1] && !bound[1]->none()) absent = *bound[1];
                      } else if (args.items.empty()) {
                        fail_with("map needs a filter or an attribute");
                      } else {
                        path = args.items[0];
                        args.items.erase(args.items.begin());
                        if (!path.text() || !is_filter(path.bytes()))
                          fail_with("map: there is no such filter");
                      }
                      it = e2.iterate(v);
                    }
                    auto item = it->next(e2);
                    if (!item) return item;
                    e2.step(4);
                    if (by_attribute)
                      return e2.attribute_path(std::move(*item), path, absent.missing() ? nullptr : &absent);
                    Arguments copy = args;
                    return e2.filter(path.bytes(), *item, copy);
                  }));
}

Value selected(Evaluator& e, const Value& v, Arguments& args, const std::string& name) {
  const bool keep = name.starts_with("select"), by_attribute = name.ends_with("attr");
  return e.wrapped(e.generator(v.depth() + 1,
                               [v, args, keep, by_attribute, it = IteratorPtr(), path = Value(),
                                test = Value()](Evaluator& e2) mutable -> std::optional<Value> {
                                 if (!it) {
                                   if (!truthy(v)) return std::nullopt;
                                   const auto take = [&]() -> Value {
                                     if (args.items.empty()) return {};
                                     Value first = args.items[0];
                                     args.items.erase(args.items.begin());
                                     return first;
                                   };
                                   if (by_attribute) {
                                     path = take();
                                     if (path.missing())
                                       fail_with("selectattr and rejectattr need an attribute");
                                   }
                                   test = take();
                                   if (!test.missing() && (!test.text() || !is_test(test.bytes())))
                                     fail_with("select and reject: there is no such test");
                                   it = e2.iterate(v);
                                 }
                                 while (auto item = it->next(e2)) {
                                   e2.step(4);
                                   const Value subject =
                                       by_attribute ? e2.attribute_path(*item, path) : *item;
                                   bool holds;
                                   if (test.missing()) {
                                     holds = truthy(subject);
                                   } else {
                                     Arguments copy = args;
                                     holds = e2.test(test.bytes(), subject, copy);
                                   }
                                   if (holds == keep) return item;
                                 }
                                 return std::nullopt;
                               }));
}

Value formatted(Evaluator& e, const Value& v, Arguments& args, const std::string&) {
  if (!args.items.empty() && !args.named.empty())
    fail_with("format takes values by place or by name, not both");
  const Value pattern = e.soft_text_of(v);
  if (args.named.empty()) return e.percent(pattern, e.heap.tuple(std::move(args.items)));
  Dict named;
  for (auto& [name, value] : args.named) named.set(e.heap.text(name), value);
  return e.percent(pattern, e.heap.dict(std::move(named)));
}

}  // namespace

FreeFilter find_free_filter(std::string_view name) {
  if (name == "map") return mapped;
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") return selected;
  if (name == "format") return formatted;
  return nullptr;
}

bool is_filter(std::string_view name) {
  return name == "tojson" || find_free_filter(name) || find_text_filter(name) || find_item_filter(name);
}

bool is_unsupported_filter(std::string_view name) {
  for (const char* known : {"random", "pprint", "urlize", "wordwrap", "striptags"})
    if (name == known) return true;
  return false;
}

Value Evaluator::filter(const std::string& name, const Value& v, Arguments& args) {
  stack.check();
  if (name == "tojson") return to_json(v, args);
  if (const FreeFilter free = find_free_filter(name)) return free(*this, v, args, name);
  const Filter* f = find_text_filter(name);
  if (!f) f = find_item_filter(name);
  if (!f && is_unsupported_filter(name)) unsupported(strf("the filter '{}'", name));
  if (!f) fail_with(strf("there is no filter '{}'", name));
  return f->run(*this, v, bind_arguments(f->name, args, std::span(f->names).first(f->count), f->required));
}

}  // namespace linnet::text::jinja
