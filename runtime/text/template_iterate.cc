#include <algorithm>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"

namespace linnet::text::jinja {
namespace {

struct Generator : Iterator {
  std::function<std::optional<Value>(Evaluator&)> make;
  bool ended = false, running = false;

  std::optional<Value> next(Evaluator& e) override {
    if (ended) return std::nullopt;
    if (running) fail_with("a generator asks itself for an item");
    running = true;
    auto v = make(e);
    running = false;
    if (!v) {
      ended = true;
      make = nullptr;
    }
    return v;
  }
};

struct TextIterator : Iterator {
  TextPtr text;
  size_t at = 0;

  std::optional<Value> next(Evaluator& e) override {
    if (at >= text->bytes.size()) return std::nullopt;
    size_t end = at + 1;
    while (end < text->bytes.size() && (static_cast<unsigned char>(text->bytes[end]) & 0xC0) == 0x80) ++end;
    return e.heap.slice(*text, std::exchange(at, end), end);
  }
};

struct IndexIterator : Iterator {
  Value of;
  int64_t at = 0, count = 0;

  std::optional<Value> next(Evaluator& e) override {
    if (at >= count) return std::nullopt;
    const int64_t here = at++;
    const auto i = static_cast<size_t>(here);
    if (of.sequence()) return of.items()[i];
    if (of.dict()) return of.map().entries[i].first;
    if (of.obj().kind == Object::kRange) return Value(static_cast<const Range&>(of.obj()).at(here));
    const auto& view = static_cast<const View&>(of.obj());
    const auto& [key, value] = view.dict->entries[i];
    if (view.part == View::kKeys) return key;
    if (view.part == View::kValues) return value;
    return e.heap.tuple({key, value});
  }
};

}  // namespace

IteratorPtr Evaluator::generator(int depth, std::function<std::optional<Value>(Evaluator&)> next) {
  auto g = heap.object(std::make_shared<Generator>(), depth + 1);
  g->make = std::move(next);
  return g;
}

int64_t Evaluator::length(const Value& v) {
  if (v.undefined()) return 0;
  if (v.text()) {
    step_bytes(v.bytes().size());
    return code_points(v.bytes());
  }
  if (v.sequence()) return static_cast<int64_t>(v.items().size());
  if (v.dict()) return static_cast<int64_t>(v.map().entries.size());
  if (v.object()) {
    if (v.obj().kind == Object::kRange) return static_cast<const Range&>(v.obj()).length();
    if (v.obj().kind == Object::kView)
      return static_cast<int64_t>(static_cast<const View&>(v.obj()).dict->entries.size());
    if (v.obj().kind == Object::kLoop) return static_cast<Loop&>(v.obj()).length(*this);
  }
  fail_with(strf("a {} has no length", type_name(v)));
}

IteratorPtr Evaluator::iterate(const Value& v) {
  if (v.object() && v.obj().kind == Object::kIterator)
    return std::static_pointer_cast<Iterator>(std::get<ObjectPtr>(v.data));
  if (v.undefined()) return generator(0, [](Evaluator&) -> std::optional<Value> { return std::nullopt; });
  if (v.text()) {
    auto it = heap.object(std::make_shared<TextIterator>(), 1);
    it->text = std::get<TextPtr>(v.data);
    return it;
  }
  const bool countable = v.sequence() || v.dict() ||
                         (v.object() && (v.obj().kind == Object::kRange || v.obj().kind == Object::kView));
  if (v.object() && v.obj().kind == Object::kLoop) unsupported("a walk through 'loop' itself");
  if (!countable) fail_with(strf("a {} cannot be walked", type_name(v)));
  auto it = heap.object(std::make_shared<IndexIterator>(), v.depth() + 1);
  it->of = v;
  it->count = length(v);
  return it;
}

List Evaluator::all_of(const Value& v) {
  if (v.sequence()) {
    step(static_cast<int64_t>(v.items().size() / 4));
    return v.items();
  }
  List items;
  const IteratorPtr it = iterate(v);
  while (auto item = it->next(*this)) {
    step();
    items.push_back(std::move(*item));
  }
  return items;
}

// ---- loop ----
std::optional<Value> Loop::advance(Evaluator& e) {
  std::optional<Value> v;
  if (after)
    v = std::exchange(after, std::nullopt);
  else if (!ended)
    v = source->next(e);
  if (!v) {
    ended = true;
    return v;
  }
  ++index0;
  before = std::move(current);
  current = *v;
  return v;
}

bool Loop::peek(Evaluator& e) {
  if (!after && !ended) {
    after = source->next(e);
    if (!after) ended = true;
  }
  return after.has_value();
}

int64_t Loop::length(Evaluator& e) {
  if (known_length) return *known_length;
  const bool countable = !(iterable.object() && iterable.obj().kind == Object::kIterator);
  if (countable) {
    known_length = e.length(iterable);
    return *known_length;
  }
  List rest = e.all_of(Value(ObjectPtr(source)));
  known_length = static_cast<int64_t>(rest.size()) + index0 + 1 + (after ? 1 : 0);
  source = e.iterate(e.heap.list(std::move(rest)));
  if (*known_length > index0 + 1 + (after ? 1 : 0)) ended = false;
  return *known_length;
}

}  // namespace linnet::text::jinja
