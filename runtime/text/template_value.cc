#include "runtime/text/template_value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/text/template_numbers.h"

namespace linnet::text::jinja {

void fail_with(std::string message) { throw Failure{std::move(message), 0, Failure::kError}; }
void out_of_bound(const char* what) { throw Failure{what, 0, Failure::kBound}; }
void unsupported(std::string what) { throw Failure{std::move(what), 0, Failure::kUnsupported}; }

void Account::take(size_t bytes) {
  if (bytes > kMostMemory - live) out_of_bound("its values take more than 256 MiB");
  live += bytes;
}

bool Value::list() const { return sequence() && !std::get<ListPtr>(data)->tuple; }
bool Value::tuple() const { return sequence() && std::get<ListPtr>(data)->tuple; }
const std::string& Value::bytes() const { return str().bytes; }
const List& Value::items() const { return std::get<ListPtr>(data)->items; }

int Value::depth() const {
  if (sequence()) return std::get<ListPtr>(data)->depth;
  if (dict()) return map().depth;
  if (object()) return obj().depth;
  return 0;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes)
    if (key == name) return &value;
  return nullptr;
}

int64_t Range::length() const {
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const auto apart = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                              : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const auto stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  return static_cast<int64_t>((apart - 1) / stride + 1);
}

// ---- making values ----
int Heap::checked_depth(int depth) {
  if (depth > kMostNesting) out_of_bound("its values are nested too deeply");
  return depth;
}

Value Heap::text(std::string bytes, Spans user, bool markup) const {
  if (bytes.size() > kMostText) out_of_bound("it makes a text of more than 64 MiB");
  auto t = std::make_shared<Text>();
  t->charge(account, sizeof(Text) + 32 + bytes.capacity() + user.capacity() * sizeof(Span));
  t->bytes = std::move(bytes);
  t->user = std::move(user);
  t->markup = markup;
  return Value(TextPtr(std::move(t)));
}

Value Heap::user_text(std::string bytes) const {
  Spans all;
  if (!bytes.empty()) all.push_back({0, bytes.size()});
  return text(std::move(bytes), std::move(all));
}

static int depth_of(const List& items) {
  int depth = 0;
  for (const Value& v : items) depth = std::max(depth, v.depth());
  return Heap::checked_depth(depth + 1);
}

static Value sequence_of(const Heap& heap, List items, bool tuple, bool group) {
  auto s = std::make_shared<Sequence>();
  s->charge(heap.account, sizeof(Sequence) + 32 + items.capacity() * sizeof(Value));
  for (const Value& v : items)
    if (v.object() && v.obj().kind == Object::kLoop) unsupported("a list that holds 'loop'");
  s->depth = depth_of(items);
  s->items = std::move(items);
  s->tuple = tuple;
  s->group = group;
  return Value(ListPtr(std::move(s)));
}

Value Heap::list(List items) const { return sequence_of(*this, std::move(items), false, false); }
Value Heap::tuple(List items) const { return sequence_of(*this, std::move(items), true, false); }
Value Heap::group(Value key, Value items) const {
  List pair;
  pair.push_back(std::move(key));
  pair.push_back(std::move(items));
  return sequence_of(*this, std::move(pair), true, true);
}

Value Heap::dict(Dict&& entries) const {
  auto d = std::make_shared<Dict>();
  d->charge(account,
            sizeof(Dict) + 32 +
                entries.entries.capacity() * (sizeof(Value) * 2 + (entries.index_.empty() ? 0 : 40)));
  int depth = 0;
  for (const auto& [key, value] : entries.entries) {
    if (value.object() && value.obj().kind == Object::kLoop) unsupported("a dict that holds 'loop'");
    depth = std::max({depth, key.depth(), value.depth()});
  }
  d->depth = checked_depth(depth + 1);
  d->entries = std::move(entries.entries);
  d->index_ = std::move(entries.index_);
  return Value(DictPtr(std::move(d)));
}

Value Heap::slice(const Text& from, size_t begin, size_t end) const {
  TextBuilder out;
  out.add(from, begin, end);
  return out.value(*this);
}

Value undefined(std::string what) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(what))});
}

void TextBuilder::add(std::string_view bytes) {
  if (bytes.size() > kMostText - bytes_.size()) out_of_bound("it makes a text of more than 64 MiB");
  bytes_ += bytes;
}

void TextBuilder::add(const Text& text, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  add(std::string_view(text.bytes).substr(begin, end - begin));
  auto span = std::ranges::upper_bound(text.user, begin, {}, &Span::end);
  for (; span != text.user.end() && span->begin < end; ++span) {
    const size_t from = base + std::max(span->begin, begin) - begin,
                 to = base + std::min(span->end, end) - begin;
    if (!user_.empty() && user_.back().end == from)
      user_.back().end = to;
    else
      user_.push_back({from, to});
  }
}

void TextBuilder::add_made(std::string_view bytes, bool user) {
  const size_t base = bytes_.size();
  add(bytes);
  if (!user || bytes.empty()) return;
  if (!user_.empty() && user_.back().end == base)
    user_.back().end = bytes_.size();
  else
    user_.push_back({base, bytes_.size()});
}

// ---- looking at values ----
const char* type_name(const Value& v) {
  if (v.object()) {
    constexpr const char* kObjects[] = {"Namespace", "range",    "dict view", "generator", "LoopContext",
                                        "Macro",     "function", "method",    "Cycler",    "Joiner"};
    return kObjects[v.obj().kind];
  }
  if (v.tuple()) return "tuple";
  constexpr const char* kNames[] = {"missing", "Undefined", "NoneType", "bool", "int",
                                    "float",   "str",       "list",     "dict"};
  return kNames[v.data.index()];
}

bool truthy(const Value& v) {
  if (v.missing() || v.undefined() || v.none()) return false;
  if (v.integral()) return v.integer() != 0;
  if (v.real()) return v.as_real() != 0;
  if (v.text()) return !v.bytes().empty();
  if (v.sequence()) return !v.items().empty();
  if (v.dict()) return !v.map().entries.empty();
  if (v.obj().kind == Object::kRange) return static_cast<const Range&>(v.obj()).length() > 0;
  if (v.obj().kind == Object::kView) return !static_cast<const View&>(v.obj()).dict->entries.empty();
  return true;
}

bool identical(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (a.none()) return true;
  if (a.undefined()) return std::get<Undefined>(a.data).what == std::get<Undefined>(b.data).what;
  if (a.boolean() || a.is<int64_t>()) return a.integer() == b.integer();
  if (a.real()) return a.as_real() == b.as_real();
  if (a.text()) return &a.str() == &b.str();
  if (a.sequence()) return std::get<ListPtr>(a.data) == std::get<ListPtr>(b.data);
  if (a.dict()) return std::get<DictPtr>(a.data) == std::get<DictPtr>(b.data);
  return a.object() && &a.obj() == &b.obj();
}

static bool equal_objects(const Object& a, const Object& b) {
  if (&a == &b) return true;
  if (a.kind != b.kind) return false;
  if (a.kind == Object::kRange) {
    const auto &x = static_cast<const Range&>(a), &y = static_cast<const Range&>(b);
    const int64_t n = x.length();
    return n == y.length() && (n == 0 || (x.start == y.start && (n == 1 || x.step == y.step)));
  }
  if (a.kind == Object::kView) {
    const auto &x = static_cast<const View&>(a), &y = static_cast<const View&>(b);
    if (x.part == View::kValues || y.part == View::kValues) return false;
    if (x.part != y.part) return false;
    if (x.dict->entries.size() != y.dict->entries.size()) return false;
    for (const auto& [key, value] : x.dict->entries) {
      const Value* other = y.dict->find(key);
      if (!other || (x.part == View::kItems && !equal(value, *other))) return false;
    }
    return true;
  }
  if (a.kind == Object::kMethod) {
    const auto &x = static_cast<const Method&>(a), &y = static_cast<const Method&>(b);
    return x.name == y.name && identical(x.object, y.object);
  }
  return a.kind == Object::kFunction &&
         static_cast<const Function&>(a).name == static_cast<const Function&>(b).name;
}

bool equal(const Value& a, const Value& b) {
  if (a.number() && b.number()) return compare_numbers(a, b) == 0;
  if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
  if (a.data.index() != b.data.index()) return false;
  if (a.text()) return a.bytes() == b.bytes();
  if (a.sequence()) {
    if (a.tuple() != b.tuple() || a.items().size() != b.items().size()) return false;
    for (size_t i = 0; i < a.items().size(); ++i)
      if (!identical(a.items()[i], b.items()[i]) && !equal(a.items()[i], b.items()[i])) return false;
    return true;
  }
  if (a.dict()) {
    if (&a.map() == &b.map()) return true;
    if (a.map().entries.size() != b.map().entries.size()) return false;
    for (const auto& [key, value] : a.map().entries) {
      const Value* other = b.map().find(key);
      if (!other || !equal(value, *other)) return false;
    }
    return true;
  }
  if (a.object()) return equal_objects(a.obj(), b.obj());
  return a.none();
}

size_t hash_of(const Value& v) {
  if (v.text()) return std::hash<std::string>()(v.bytes());
  if (v.integral()) return std::hash<int64_t>()(v.integer());
  if (v.real()) {
    const double d = v.as_real();
    return d == std::floor(d) && std::fabs(d) < 9e18 ? std::hash<int64_t>()(static_cast<int64_t>(d))
                                                     : std::hash<double>()(d);
  }
  if (v.tuple()) {
    size_t hash = 17;
    for (const Value& item : v.items()) hash = hash * 1000003 ^ hash_of(item);
    return hash;
  }
  if (v.list()) fail_with("unhashable type: 'list'");
  if (v.dict()) fail_with("unhashable type: 'dict'");
  if (v.object() && v.obj().kind == Object::kView && static_cast<const View&>(v.obj()).part != View::kValues)
    fail_with("unhashable type: 'dict view'");
  if (v.object() && v.obj().kind != Object::kRange && v.obj().kind != Object::kMethod &&
      v.obj().kind != Object::kFunction)
    return std::hash<const void*>()(&v.obj());
  return v.data.index();
}

static constexpr size_t kFew = 8;  // entries that are gone through one by one

std::optional<size_t> Dict::position(const Value& key, size_t hash) const {
  if (entries.size() <= kFew || index_.empty()) {
    for (size_t i = 0; i < entries.size(); ++i)
      if (equal(entries[i].first, key)) return i;
    return std::nullopt;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it)
    if (equal(entries[it->second].first, key)) return it->second;
  return std::nullopt;
}

const Value* Dict::find(const Value& key) const {
  const auto at = position(key, hash_of(key));
  return at ? &entries[*at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (entries.size() > kFew) return find(Heap{}.text(std::string(key)));
  for (const auto& [name, value] : entries)
    if (name.text() && name.bytes() == key) return &value;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  const size_t hash = hash_of(key);
  if (const auto at = position(key, hash)) {
    entries[*at].second = std::move(value);
    return;
  }
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() == kFew + 1)
    for (size_t i = 0; i < kFew; ++i) index_.emplace(hash_of(entries[i].first), static_cast<uint32_t>(i));
  if (entries.size() > kFew) index_.emplace(hash, static_cast<uint32_t>(entries.size() - 1));
}

int64_t code_points(std::string_view s) {
  int64_t n = 0;
  for (const char c : s) n += (static_cast<unsigned char>(c) & 0xC0) == 0x80 ? 0 : 1;
  return n;
}

size_t byte_of(std::string_view s, int64_t code_point) {
  if (code_point <= 0) return 0;
  size_t at = 0;
  while (at < s.size()) {
    if ((static_cast<unsigned char>(s[at]) & 0xC0) != 0x80 && code_point-- == 0) return at;
    ++at;
  }
  return at;
}

}  // namespace linnet::text::jinja
