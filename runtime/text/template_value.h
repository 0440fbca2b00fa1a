// Values of the template language: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace linnet::text::jinja {

// Of any text that a template makes, and of all values that are alive at one time.
inline constexpr size_t kMostText = size_t{64} << 20;
inline constexpr size_t kMostMemory = size_t{256} << 20;
// Of values in values, of expressions in expressions, and of statements in statements.
inline constexpr int kMostNesting = 100;
inline constexpr int kMostDepth = 180;
inline constexpr int kMostBlocks = 60;
// Of the stack, for parsing and for rendering: a thread with 512 KiB has room for it.
inline constexpr size_t kMostStack = size_t{224} << 10;

// What went wrong, with the line of the template (0: unknown). Thrown inside the template files only; the
// public functions turn it into an Error.
struct Failure {
  std::string message;
  int line = 0;
  enum Kind {
    kError,        // what Jinja would not do either
    kRaised,       // the template's own raise_exception
    kBound,        // a limit was reached
    kUnsupported,  // Jinja does it, and this engine does not
  } kind = kError;
};
[[noreturn]] void fail_with(std::string message);  // kError; the evaluator adds the line
[[noreturn]] void out_of_bound(const char* what);
[[noreturn]] void unsupported(std::string what);

// Bytes of the values of one rendering.
struct Account {
  size_t live = 0;
  void take(size_t bytes);
  void give(size_t bytes) { live -= bytes; }
};

// Bytes that are needed for a while.
class Temporary {
 public:
  Temporary(Account& account, size_t bytes) : account_(account), bytes_(bytes) { account_.take(bytes_); }
  ~Temporary() { account_.give(bytes_); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

 private:
  Account& account_;
  size_t bytes_;
};

// What lies on the heap. The account outlives it; constants of a template have none.
struct Counted {
  Counted() = default;
  Counted(Counted&& other) noexcept
      : depth(other.depth),
        account_(std::exchange(other.account_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Counted& operator=(Counted&&) = delete;
  ~Counted() {
    if (account_) account_->give(bytes_);
  }
  void charge(Account* account, size_t bytes) {
    if (account) account->take(bytes);
    account_ = account;
    bytes_ += bytes;
  }
  int depth = 1;

 private:
  Account* account_ = nullptr;
  size_t bytes_ = 0;
};

struct Value;
struct Text;
struct Sequence;
struct Dict;
struct Object;
using List = std::vector<Value>;
using TextPtr = std::shared_ptr<const Text>;
using ListPtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

struct Missing {};  // in the place of a variable that has no value
struct Undefined {
  std::shared_ptr<const std::string> what;  // such as "'x' is undefined"; null: nothing to say
};
struct None {};

struct Value {
  std::variant<Missing, Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr, ObjectPtr> data;

  Value() = default;
  Value(Undefined u) : data(std::move(u)) {}
  Value(None) : data(None{}) {}
  Value(bool b) : data(b) {}
  Value(int64_t i) : data(i) {}
  Value(double d) : data(d) {}
  Value(TextPtr t) : data(std::move(t)) {}
  Value(ListPtr l) : data(std::move(l)) {}
  Value(DictPtr d) : data(std::move(d)) {}
  Value(ObjectPtr o) : data(std::move(o)) {}
  template <typename T>
  Value(const T*) = delete;  // a pointer would become a bool

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  bool missing() const { return is<Missing>(); }
  bool undefined() const { return is<Undefined>(); }
  bool none() const { return is<None>(); }
  bool boolean() const { return is<bool>(); }
  bool integral() const { return is<int64_t>() || is<bool>(); }  // what Python's int is, bool included
  bool real() const { return is<double>(); }
  bool number() const { return integral() || real(); }
  bool text() const { return is<TextPtr>(); }
  bool sequence() const { return is<ListPtr>(); }  // list or tuple
  bool list() const;
  bool tuple() const;
  bool dict() const { return is<DictPtr>(); }
  bool object() const { return is<ObjectPtr>(); }

  int64_t integer() const { return boolean() ? (std::get<bool>(data) ? 1 : 0) : std::get<int64_t>(data); }
  double as_real() const { return real() ? std::get<double>(data) : static_cast<double>(integer()); }
  const Text& str() const { return *std::get<TextPtr>(data); }
  const std::string& bytes() const;
  const List& items() const;
  const Dict& map() const { return *std::get<DictPtr>(data); }
  Object& obj() const { return *std::get<ObjectPtr>(data); }
  int depth() const;
};

// A stretch of bytes that a user wrote.
struct Span {
  size_t begin, end;
  bool operator==(const Span&) const = default;
};
using Spans = std::vector<Span>;  // ascending, apart from each other

// UTF-8, and which of its bytes came from messages, tools and documents instead of the template.
struct Text : Counted {
  std::string bytes;
  Spans user;
  bool markup = false;  // made by `safe` or `escape`: what is joined to it is escaped
};

struct Sequence : Counted {
  List items;
  bool tuple = false;
  bool group = false;  // a pair of groupby: has the attributes `grouper` and `list`
};

// In order of insertion, as Python's dict; keys are equal as Python has it (1, 1.0 and True are one key).
struct Dict : Counted {
  std::vector<std::pair<Value, Value>> entries;

  const Value* find(const Value& key) const;  // throws for a key that has no hash
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);

 private:
  std::optional<size_t> position(const Value& key, size_t hash) const;
  std::unordered_multimap<size_t, uint32_t> index_;  // once there are many
  friend struct Heap;
};

// Everything else that a name can stand for.
struct Object : Counted {
  enum Kind { kNamespace, kRange, kView, kIterator, kLoop, kMacro, kFunction, kMethod, kCycler, kJoiner };
  explicit Object(Kind k) : kind(k) {}
  virtual ~Object() = default;
  const Kind kind;
};

struct Namespace : Object {
  Namespace() : Object(kNamespace) {}
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(std::string_view name);
};

struct Range : Object {
  Range(int64_t a, int64_t b, int64_t by) : Object(kRange), start(a), stop(b), step(by) {}
  int64_t start, stop, step;
  int64_t length() const;
  int64_t at(int64_t i) const { return start + i * step; }
};

// dict.keys(), values() and items().
struct View : Object {
  enum Part { kKeys, kValues, kItems };
  View(DictPtr d, Part p) : Object(kView), dict(std::move(d)), part(p) {}
  DictPtr dict;
  Part part;
};

struct Function : Object {
  explicit Function(std::string n) : Object(kFunction), name(std::move(n)) {}
  std::string name;
};

// A method bound to its object: "text".upper
struct Method : Object {
  Method(Value o, std::string n) : Object(kMethod), object(std::move(o)), name(std::move(n)) {}
  Value object;
  std::string name;
};

// cycler(...) and joiner(...).
struct Cycler : Object {
  Cycler() : Object(kCycler) {}
  List items;
  size_t at = 0;
};
struct Joiner : Object {
  Joiner() : Object(kJoiner) {}
  Value separator;
  bool used = false;
};

// Makes values whose bytes are counted.
struct Heap {
  Account* account = nullptr;

  Value text(std::string bytes, Spans user = {}, bool markup = false) const;
  Value user_text(std::string bytes) const;
  Value list(List items) const;
  Value tuple(List items) const;
  Value group(Value key, Value items) const;
  Value dict(Dict&& entries) const;
  Value slice(const Text& text, size_t begin, size_t end) const;
  template <typename T>
  std::shared_ptr<T> object(std::shared_ptr<T> o, int depth) const {
    o->charge(account, sizeof(T) + 32);
    o->depth = checked_depth(depth);
    return o;
  }
  static int checked_depth(int depth);
};

Value undefined(std::string what);

// Puts a text together, and keeps in mind who wrote what.
class TextBuilder {
 public:
  void add(std::string_view bytes);                                // the template's
  void add(const Text& text) { add(text, 0, text.bytes.size()); }  // with its spans
  void add(const Text& text, size_t begin, size_t end);
  // What was made of a text in a way that leaves no telling its bytes apart: a user's if any of it was.
  void add_made(std::string_view bytes, bool user);
  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  std::string take_bytes() { return std::move(bytes_); }
  Spans take_spans() { return std::move(user_); }
  Value value(const Heap& heap, bool markup = false) {
    return heap.text(std::move(bytes_), std::move(user_), markup);
  }

 private:
  std::string bytes_;
  Spans user_;
};

const char* type_name(const Value& v);  // Python's
bool truthy(const Value& v);
bool equal(const Value& a, const Value& b);
bool identical(const Value& a, const Value& b);  // Python's `is`
size_t hash_of(const Value& v);                  // throws for what has none

// UTF-8: lengths and indices of strings count code points.
int64_t code_points(std::string_view s);
size_t byte_of(std::string_view s, int64_t code_point);  // clamped

}  // namespace linnet::text::jinja
