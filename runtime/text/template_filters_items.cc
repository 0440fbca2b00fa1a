// Filters of lists, dicts and whatever else can be walked.
#include <algorithm>

#include "runtime/core/strings.h"
#include "runtime/text/template_filters.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/template_text.h"

namespace linnet::text::jinja {
namespace {

Value without_case(Evaluator& e, const Value& v) { return v.text() ? cased(e, v, "lower") : v; }

// Keys by which items are ordered or told apart.
Value key_of(Evaluator& e, const Value& item, const Value* path, bool case_sensitive,
             const Value* absent = nullptr) {
  const Value v = path ? e.attribute_path(item, *path, absent) : item;
  return case_sensitive ? v : without_case(e, v);
}

// Several attributes with commas between them.
Value keys_of(Evaluator& e, const Value& item, const Value* path, bool case_sensitive) {
  List keys;
  if (path && path->text()) {
    const Value comma = e.heap.text(","), parts = split(e, *path, &comma, -1, false);
    for (const Value& part : parts.items()) keys.push_back(key_of(e, item, &part, case_sensitive));
  } else {
    keys.push_back(key_of(e, item, path && !path->none() ? path : nullptr, case_sensitive));
  }
  return e.heap.list(std::move(keys));
}

// Stable; reversed as Python reverses: equal items keep their order.
List sorted_by(Evaluator& e, List items, const List& keys, bool reverse) {
  std::vector<uint32_t> order(items.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  // A merge sort of its own: comparisons of mixed values are no strict order, and may throw.
  std::vector<uint32_t> other(order.size());
  const auto less = [&](uint32_t a, uint32_t b) {
    e.step();
    return reverse ? e.compare("<", keys[b], keys[a]) : e.compare("<", keys[a], keys[b]);
  };
  for (size_t width = 1; width < order.size(); width *= 2) {
    for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, order.size()),
                   end = std::min(begin + 2 * width, order.size());
      size_t i = begin, j = middle;
      for (size_t k = begin; k < end; ++k)
        other[k] = j >= end || (i < middle && !less(order[j], order[i])) ? order[i++] : order[j++];
    }
    order.swap(other);
  }
  List result;
  result.reserve(items.size());
  for (const uint32_t i : order) result.push_back(std::move(items[i]));
  return result;
}

Value sort(Evaluator& e, const Value& v, const Bound& args) {
  List items = e.all_of(v), keys;
  for (const Value& item : items) keys.push_back(keys_of(e, item, args[2], truth(args[1])));
  return e.heap.list(sorted_by(e, std::move(items), keys, truth(args[0])));
}

Value dict_sort(Evaluator& e, const Value& v, const Bound& args) {
  const std::string by = args[1] ? (args[1]->text() ? args[1]->bytes() : "?") : "key";
  if (by != "key" && by != "value") fail_with("dictsort: it sorts by 'key' or 'value'");
  if (!v.dict()) fail_with(strf("dictsort needs a dict, not a {}", type_name(v)));
  List pairs, keys;
  for (const auto& [key, value] : v.map().entries) {
    e.step();
    pairs.push_back(e.heap.tuple({key, value}));
    const Value& which = by == "key" ? key : value;
    keys.push_back(truth(args[0]) ? which : without_case(e, which));
  }
  return e.heap.list(sorted_by(e, std::move(pairs), keys, truth(args[2])));
}

Value group_by(Evaluator& e, const Value& v, const Bound& args) {
  const Value* absent = args[1] && !args[1]->none() ? args[1] : nullptr;
  const bool case_sensitive = truth(args[2]);
  List items = e.all_of(v), keys;
  for (const Value& item : items) keys.push_back(key_of(e, item, args[0], case_sensitive, absent));
  items = sorted_by(e, std::move(items), keys, false);
  List groups;
  for (size_t begin = 0; begin < items.size();) {
    const Value key = key_of(e, items[begin], args[0], case_sensitive, absent);
    List group;
    size_t end = begin;
    while (end < items.size()) {
      e.step();
      const Value other = key_of(e, items[end], args[0], case_sensitive, absent);
      if (end > begin && !identical(key, other) && !e.same(key, other)) break;
      group.push_back(items[end++]);
    }
    groups.push_back(e.heap.group(case_sensitive ? key : e.attribute_path(items[begin], *args[0], absent),
                                  e.heap.list(std::move(group))));
    begin = end;
  }
  return e.heap.list(std::move(groups));
}

Value unique(Evaluator& e, const Value& v, const Bound& args) {
  const Value path = args[1] ? *args[1] : Value(None{});
  const bool case_sensitive = truth(args[0]);
  return e.wrapped(e.generator(v.depth() + 1,
                               [v, path, case_sensitive, it = IteratorPtr(), seen = std::make_shared<Dict>()](
                                   Evaluator& e2) mutable -> std::optional<Value> {
                                 if (!it) it = e2.iterate(v);
                                 while (auto item = it->next(e2)) {
                                   e2.step(4);
                                   Value key =
                                       key_of(e2, *item, path.none() ? nullptr : &path, case_sensitive);
                                   e2.step_key(key);
                                   if (seen->find(key)) continue;
                                   seen->set(std::move(key), Value(None{}));
                                   return item;
                                 }
                                 return std::nullopt;
                               }));
}

Value least_or_most(Evaluator& e, const Value& v, const Bound& args, const char* op) {
  const Value* path = args[1] && !args[1]->none() ? args[1] : nullptr;
  const IteratorPtr it = e.iterate(v);
  std::optional<Value> best;
  Value best_key;
  while (auto item = it->next(e)) {
    e.step();
    Value key = key_of(e, *item, path, truth(args[0]));
    if (best && !e.compare(op, key, best_key)) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best ? *best : undefined("min or max of nothing");
}
Value least(Evaluator& e, const Value& v, const Bound& args) { return least_or_most(e, v, args, "<"); }
Value most(Evaluator& e, const Value& v, const Bound& args) { return least_or_most(e, v, args, ">"); }

Value sum(Evaluator& e, const Value& v, const Bound& args) {
  Value total = args[1] ? *args[1] : Value(int64_t{0});
  if (total.text()) fail_with("sum cannot add texts: use join");
  const Value* path = args[0] && !args[0]->none() ? args[0] : nullptr;
  const IteratorPtr it = e.iterate(v);
  while (auto item = it->next(e)) {
    e.step();
    total = e.binary("+", total, path ? e.attribute_path(std::move(*item), *path) : *item);
  }
  return total;
}

Value join(Evaluator& e, const Value& v, const Bound& args) {
  const Value by = args[0] ? e.text_of(*args[0]) : e.heap.text("");
  const Value* path = args[1] && !args[1]->none() ? args[1] : nullptr;
  const IteratorPtr it = e.iterate(v);
  TextBuilder out;
  bool first = true;
  while (auto item = it->next(e)) {
    e.step();
    if (!std::exchange(first, false)) e.write(out, by);
    e.write(out, path ? e.attribute_path(std::move(*item), *path) : *item);
  }
  return out.value(e.heap);
}

Value length(Evaluator& e, const Value& v, const Bound&) { return Value(e.length(v)); }
Value list(Evaluator& e, const Value& v, const Bound&) { return e.heap.list(e.all_of(v)); }

Value first(Evaluator& e, const Value& v, const Bound&) {
  const auto item = e.iterate(v)->next(e);
  return item ? *item : undefined("the first item of nothing");
}

// Whether Python can walk it from its end.
bool reversible(const Value& v) {
  return v.text() || v.sequence() || v.dict() ||
         (v.object() && (v.obj().kind == Object::kRange || v.obj().kind == Object::kView));
}

Value last(Evaluator& e, const Value& v, const Bound&) {
  if (v.undefined()) return undefined("the last item of nothing");
  if (!reversible(v)) fail_with(strf("a {} cannot be walked from its end", type_name(v)));
  // From its end Python walks a text by index, which gives what the text is: markup, where it is that.
  if (v.text() && !v.bytes().empty()) return e.slice(v, Value(int64_t{-1}), Value(None{}), Value(None{}));
  if (v.sequence()) return v.items().empty() ? undefined("the last item of nothing") : v.items().back();
  List items = e.all_of(v);
  return items.empty() ? undefined("the last item of nothing") : items.back();
}

Value reverse(Evaluator& e, const Value& v, const Bound&) {
  if (v.text()) return e.slice(v, Value(None{}), Value(None{}), Value(int64_t{-1}));
  List items = e.all_of(v);
  std::reverse(items.begin(), items.end());
  Value reversed = e.heap.list(std::move(items));
  // Python gives a list only for what it cannot walk from its end.
  return reversible(v) || v.undefined()
             ? e.wrapped(e.generator(reversed.depth() + 1,
                                     [it = e.iterate(reversed)](Evaluator& e2) { return it->next(e2); }))
             : reversed;
}

Value items(Evaluator& e, const Value& v, const Bound&) {
  return e.wrapped(
      e.generator(v.depth() + 2, [v, it = IteratorPtr()](Evaluator& e2) mutable -> std::optional<Value> {
        if (v.undefined()) return std::nullopt;
        if (!v.dict()) fail_with(strf("items needs a dict, not a {}", type_name(v)));
        if (!it)
          it = e2.iterate(Value(ObjectPtr(e2.heap.object(
              std::make_shared<View>(std::get<DictPtr>(v.data), View::kItems), v.depth() + 1))));
        return it->next(e2);
      }));
}

Value batch(Evaluator& e, const Value& v, const Bound& args) {
  return e.wrapped(e.generator(
      v.depth() + 2,
      [v, count_value = *args[0], fill = args[1] ? *args[1] : Value(None{}), it = IteratorPtr(),
       pending = std::optional<Value>()](Evaluator& e2) mutable -> std::optional<Value> {
        if (!it) it = e2.iterate(v);
        List row;
        while (true) {
          std::optional<Value> item = pending ? std::exchange(pending, std::nullopt) : it->next(e2);
          if (!item) break;
          e2.step();
          if (equal(Value(static_cast<int64_t>(row.size())), count_value)) {
            pending = std::move(item);
            return e2.heap.list(std::move(row));
          }
          row.push_back(std::move(*item));
        }
        if (row.empty()) return std::nullopt;
        if (!fill.none()) {
          const int64_t count = whole(count_value);
          for (auto n = static_cast<int64_t>(row.size()); n < count; ++n) e2.step(), row.push_back(fill);
        }
        return e2.heap.list(std::move(row));
      }));
}

Value slices(Evaluator& e, const Value& v, const Bound& args) {
  return e.wrapped(e.generator(
      v.depth() + 2,
      [v, count_value = *args[0], fill = args[1] ? *args[1] : Value(None{}), all = std::optional<List>(),
       number = int64_t{0}, offset = int64_t{0}](Evaluator& e2) mutable -> std::optional<Value> {
        if (!all) all = e2.all_of(v);
        const int64_t count = whole(count_value);
        if (count == 0) fail_with("slice: division by zero");
        if (number >= count) return std::nullopt;
        const auto n = static_cast<int64_t>(all->size());
        const int64_t each = n / count, extra = n % count, begin = offset + number * each;
        if (number < extra) ++offset;
        const int64_t end = offset + (number + 1) * each;
        List row;
        for (int64_t i = begin; i < std::min(end, n); ++i) row.push_back((*all)[static_cast<size_t>(i)]);
        if (!fill.none() && number >= extra) row.push_back(fill);
        e2.step(1 + static_cast<int64_t>(row.size()));
        ++number;
        return e2.heap.list(std::move(row));
      }));
}

Value default_of(Evaluator& e, const Value& v, const Bound& args) {
  if (!v.undefined() && !(truth(args[1]) && !truthy(v))) return v;
  return args[0] ? *args[0] : e.heap.text("");
}

// An attribute, and never an item.
Value attr(Evaluator& e, const Value& v, const Bound& args) {
  if (!args[0]->text()) fail_with("attr needs a name");
  const std::string& name = args[0]->bytes();
  if (v.undefined()) fail_with(strf("'{}' of something undefined", name));
  // Of a dict without its entries only the methods are left.
  if (v.dict())
    return e.attribute(e.heap.dict(Dict()), name).undefined()
               ? undefined(strf("a dict has no attribute '{}'", name))
               : e.attribute(v, name);
  return e.attribute(v, name);
}

constexpr Filter kItemFilters[] = {
    {"attr", attr, {"name"}, 1, 1},
    {"batch", batch, {"linecount", "fill_with"}, 2, 1},
    {"count", length, {}, 0, 0},
    {"d", default_of, {"default_value", "boolean"}, 2, 0},
    {"default", default_of, {"default_value", "boolean"}, 2, 0},
    {"dictsort", dict_sort, {"case_sensitive", "by", "reverse"}, 3, 0},
    {"first", first, {}, 0, 0},
    {"groupby", group_by, {"attribute", "default", "case_sensitive"}, 3, 1},
    {"items", items, {}, 0, 0},
    {"join", join, {"d", "attribute"}, 2, 0},
    {"last", last, {}, 0, 0},
    {"length", length, {}, 0, 0},
    {"list", list, {}, 0, 0},
    {"max", most, {"case_sensitive", "attribute"}, 2, 0},
    {"min", least, {"case_sensitive", "attribute"}, 2, 0},
    {"reverse", reverse, {}, 0, 0},
    {"slice", slices, {"slices", "fill_with"}, 2, 1},
    {"sort", sort, {"reverse", "case_sensitive", "attribute"}, 3, 0},
    {"sum", sum, {"attribute", "start"}, 2, 0},
    {"unique", unique, {"case_sensitive", "attribute"}, 2, 0},
};

}  // namespace

const Filter* find_item_filter(std::string_view name) {
  const auto it = std::ranges::find_if(kItemFilters, [&](const Filter& f) { return name == f.name; });
  return it == std::end(kItemFilters) ? nullptr : &*it;
}

}  // namespace linnet::text::jinja
