#include <algorithm>
#include <optional>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"

namespace linnet::text::jinja {

Value Evaluator::joined(const Value& a, const Value& b) {
  const bool markup = a.str().markup || b.str().markup;
  TextBuilder out;
  for (const Value* v : {&a, &b}) {
    const Value part = markup ? escaped(*this, *v) : *v;
    step_bytes(part.bytes().size());
    out.add(part.str());
  }
  return out.value(heap, markup);
}

Value Evaluator::repeated(const Value& v, int64_t n) {
  n = std::max<int64_t>(n, 0);
  if (v.text()) {
    const Text& t = v.str();
    if (!t.bytes.empty() && n > static_cast<int64_t>(kMostText / t.bytes.size()))
      out_of_bound("it makes a text of more than 64 MiB");
    if (t.bytes.empty()) n = 0;
    step_bytes(t.bytes.size() * static_cast<size_t>(n));
    step(static_cast<int64_t>(t.user.size()) * n);
    TextBuilder out;
    for (int64_t i = 0; i < n; ++i) out.add(t);
    return out.value(heap, t.markup);
  }
  const List& items = v.items();
  if (items.empty()) n = 0;
  if (n > kMostSteps) out_of_bound("it takes too many steps");
  step(static_cast<int64_t>(items.size()) * n);
  List result;
  for (int64_t i = 0; i < n; ++i) result.insert(result.end(), items.begin(), items.end());
  return v.tuple() ? heap.tuple(std::move(result)) : heap.list(std::move(result));
}

Value Evaluator::binary(const std::string& op, const Value& a, const Value& b) {
  if (a.number() && b.number()) return arithmetic(op, a, b);
  for (const Value* v : {&a, &b})
    if (v->undefined() && !(op == "%" && a.text())) {
      const auto& what = std::get<Undefined>(v->data).what;
      fail_with(what ? *what : "something undefined");
    }
  if (op == "+" && a.text() && b.text()) return joined(a, b);
  if (op == "+" && ((a.list() && b.list()) || (a.tuple() && b.tuple()))) {
    List items = a.items();
    step(static_cast<int64_t>(a.items().size() / 4 + b.items().size()));
    items.insert(items.end(), b.items().begin(), b.items().end());
    return a.tuple() ? heap.tuple(std::move(items)) : heap.list(std::move(items));
  }
  if (op == "*" && (a.text() || a.sequence()) && b.integral()) return repeated(a, b.integer());
  if (op == "*" && (b.text() || b.sequence()) && a.integral()) return repeated(b, a.integer());
  if (op == "%" && a.text()) return percent(a, b);
  if (op == "-" && a.object() && a.obj().kind == Object::kView)
    unsupported("a set, which '-' between views of a dict gives");
  fail_with(strf("'{}' does not work between {} and {}", op, type_name(a), type_name(b)));
}

bool Evaluator::same(const Value& a, const Value& b) {
  if (a.text() && b.text()) {
    if (a.bytes().size() == b.bytes().size()) step_bytes(a.bytes().size());
    return a.bytes() == b.bytes();
  }
  if ((a.sequence() && b.sequence()) || (a.dict() && b.dict())) {
    stack.check();
    // Not more than the smaller holds, item by item.
    step(1 + static_cast<int64_t>(a.sequence() ? std::min(a.items().size(), b.items().size())
                                               : a.map().entries.size()));
    if (a.sequence()) {
      if (a.tuple() != b.tuple() || a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i)
        if (!identical(a.items()[i], b.items()[i]) && !same(a.items()[i], b.items()[i])) return false;
      return true;
    }
    if (&a.map() == &b.map()) return true;
    if (a.map().entries.size() != b.map().entries.size()) return false;
    for (const auto& [key, value] : a.map().entries) {
      step_key(key);
      const Value* other = b.map().find(key);
      if (!other || !same(value, *other)) return false;
    }
    return true;
  }
  return equal(a, b);
}

namespace {

// Order by a three-way result; 2 is no order.
bool holds(const std::string& op, int order) {
  if (order == 2) return false;
  return op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
}

}  // namespace

bool Evaluator::compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==" || op == "!=") return same(a, b) == (op == "==");
  if (op == "in" || op == "not in") return contains(b, a) == (op == "in");
  stack.check();
  if (a.number() && b.number()) return holds(op, compare_numbers(a, b));
  if (a.text() && b.text()) {
    step_bytes(std::min(a.bytes().size(), b.bytes().size()));
    const int order = a.bytes().compare(b.bytes());  // UTF-8 is in the order of code points
    return holds(op, order < 0 ? -1 : order > 0 ? 1 : 0);
  }
  if (a.sequence() && b.sequence() && a.tuple() == b.tuple()) {
    const size_t n = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < n; ++i) {
      step();
      if (!identical(a.items()[i], b.items()[i]) && !same(a.items()[i], b.items()[i]))
        return compare(op, a.items()[i], b.items()[i]);
    }
    return holds(op, a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size() ? 1 : 0);
  }
  if (a.object() && b.object() && a.obj().kind == Object::kView && b.obj().kind == Object::kView)
    unsupported("an order between views of a dict");
  fail_with(strf("'{}' does not work between {} and {}", op, type_name(a), type_name(b)));
}

bool Evaluator::contains(const Value& container, const Value& v) {
  if (container.text()) {
    if (!v.text()) fail_with(strf("'in' a text needs a text on its left, not a {}", type_name(v)));
    // A search may compare all of the part at each place.
    step(static_cast<int64_t>((container.bytes().size() / 256 + 1) * (v.bytes().size() / 64 + 1)));
    return container.bytes().find(v.bytes()) != std::string::npos;
  }
  if (container.dict()) {
    step_key(v);
    return container.map().find(v) != nullptr;
  }
  if (container.object() && container.obj().kind == Object::kRange && v.integral()) {
    const auto& range = static_cast<const Range&>(container.obj());
    const int64_t i = v.integer();
    if (range.step > 0 ? i < range.start || i >= range.stop : i > range.start || i <= range.stop)
      return false;
    return (i - range.start) % range.step == 0;
  }
  if (container.object() && container.obj().kind == Object::kView) {
    const auto& view = static_cast<const View&>(container.obj());
    step_key(v);
    if (view.part == View::kKeys) return view.dict->find(v) != nullptr;
    if (view.part == View::kItems) {
      if (!v.tuple() || v.items().size() != 2) return false;
      const Value* found = view.dict->find(v.items()[0]);
      return found && same(*found, v.items()[1]);
    }
  }
  const IteratorPtr it = iterate(container);
  while (auto candidate = it->next(*this)) {
    step();
    if (identical(*candidate, v) || same(*candidate, v)) return true;
  }
  return false;
}

Value Evaluator::slice(const Value& object, const Value& first, const Value& last, const Value& stride) {
  const bool range = object.object() && object.obj().kind == Object::kRange;
  if (!object.text() && !object.sequence() && !range) {
    if (object.undefined() && std::get<Undefined>(object.data).what)
      fail_with(*std::get<Undefined>(object.data).what);
    fail_with(strf("a {} has no slices", type_name(object)));
  }
  const auto bound = [](const Value& v, const char* what) -> std::optional<int64_t> {
    if (v.none()) return std::nullopt;
    if (!v.integral()) fail_with(strf("the {} of a slice must be an integer or none", what));
    return v.integer();
  };
  const int64_t by = bound(stride, "step").value_or(1);
  if (by == 0) fail_with("the step of a slice cannot be zero");
  const int64_t n = length(object);
  if (object.text()) step_bytes(object.bytes().size());
  const auto clamp = [&](std::optional<int64_t> i, int64_t absent) {
    if (!i) return absent;
    if (*i < 0) return std::max(*i + n, by < 0 ? int64_t{-1} : int64_t{0});
    return std::min(*i, by < 0 ? n - 1 : n);
  };
  const int64_t begin = clamp(bound(first, "start"), by < 0 ? n - 1 : 0);
  const int64_t end = clamp(bound(last, "end"), by < 0 ? -1 : n);
  if (range) {
    const auto& r = static_cast<const Range&>(object.obj());
    return Value(
        ObjectPtr(heap.object(std::make_shared<Range>(r.at(begin), r.at(end), multiplied(r.step, by)), 1)));
  }
  if (object.text() && by == 1) {
    const Text& t = object.str();
    TextBuilder out;
    if (begin < end) out.add(t, byte_of(t.bytes, begin), byte_of(t.bytes, end));
    return out.value(heap, t.markup);
  }
  const int64_t count = by > 0
                            ? (begin < end ? (end - begin - 1) / by + 1 : 0)
                            : (begin > end ? (begin - end - 1) / (by == INT64_MIN ? INT64_MAX : -by) + 1 : 0);
  step(count);
  if (object.text()) {
    const Text& t = object.str();
    const Temporary room(account, (static_cast<size_t>(n) + 1) * sizeof(uint32_t));
    std::vector<uint32_t> starts;
    starts.reserve(static_cast<size_t>(n) + 1);
    for (size_t at = 0; at < t.bytes.size(); ++at)
      if ((static_cast<unsigned char>(t.bytes[at]) & 0xC0) != 0x80)
        starts.push_back(static_cast<uint32_t>(at));
    starts.push_back(static_cast<uint32_t>(t.bytes.size()));
    TextBuilder out;
    for (int64_t i = 0, at = begin; i < count; ++i, at = i < count ? at + by : at)
      out.add(t, starts[static_cast<size_t>(at)], starts[static_cast<size_t>(at) + 1]);
    return out.value(heap, t.markup);
  }
  List result;
  for (int64_t i = 0, at = begin; i < count; ++i, at = i < count ? at + by : at)
    result.push_back(object.items()[static_cast<size_t>(at)]);
  return object.tuple() ? heap.tuple(std::move(result)) : heap.list(std::move(result));
}

}  // namespace linnet::text::jinja
