#include "converter/readers/pickle.h"

#include <cstring>
#include <map>
#include <optional>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

using PickleKind = PickleValue::Kind;

constexpr size_t kMostValues = size_t{1} << 24;
constexpr size_t kMostOfGlobal = 1024;  // bytes of "module name"

class Machine {
 public:
  Machine(std::span<const std::byte> program, const std::string& name) : in_(program), name_(name) {}

  Result<Pickle> run() {
    while (!error_ && !done_) step();
    if (error_)
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}' cannot be read as a pickle: {} at byte {}", name_, *error_, at_));
    return std::move(out_);
  }

 private:
  void refuse(std::string what) {
    if (!error_) error_ = std::move(what);
  }

  template <typename T>
  T take() {
    T value{};
    if (in_.size() - at_ < sizeof(T)) {
      refuse("it ends too early");
      return value;
    }
    std::memcpy(&value, in_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string text(uint64_t bytes) {
    if (bytes > in_.size() - at_) {
      refuse("a text reaches past its end");
      return {};
    }
    std::string result(reinterpret_cast<const char*>(in_.data()) + at_, bytes);
    at_ += bytes;
    return result;
  }
  std::string line() {
    const auto* begin = reinterpret_cast<const char*>(in_.data()) + at_;
    const void* end = std::memchr(begin, '\n', in_.size() - at_);
    if (!end) {
      refuse("a line has no end");
      return {};
    }
    std::string result(begin, static_cast<const char*>(end));
    at_ += result.size() + 1;
    return result;
  }

  uint32_t make(PickleValue value) {
    if (out_.values.size() >= kMostValues) refuse("it has too many values");
    if (error_) return 0;
    out_.values.push_back(std::move(value));
    return static_cast<uint32_t>(out_.values.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  void push_integer(int64_t n) { push({PickleKind::kInteger, n, {}, {}}); }
  void push_text(std::string s) { push({PickleKind::kText, 0, std::move(s), {}}); }
  void push_global(const std::string& module, const std::string& name) {
    if (module.size() + name.size() > kMostOfGlobal) return refuse("a class has an endless name");
    push({PickleKind::kGlobal, 0, module + " " + name, {}});
  }
  uint32_t pop() {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) {
      refuse("an instruction finds no value");
      return make({});
    }
    const uint32_t value = stack_.back();
    stack_.pop_back();
    return value;
  }
  PickleValue* top() {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) {
      refuse("an instruction finds no value");
      return nullptr;
    }
    return &out_.values[stack_.back()];
  }
  // The values since the last mark.
  std::vector<uint32_t> since_mark() {
    if (marks_.empty()) {
      refuse("an instruction finds no mark");
      return {};
    }
    std::vector<uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void push_tuple(size_t count) {
    PickleValue tuple{PickleKind::kTuple, 0, {}, std::vector<uint32_t>(count)};
    for (size_t i = count; i-- > 0;) tuple.items[i] = pop();
    push(std::move(tuple));
  }
  // Adds items to the value on top: to a list, or keys and values to a dict. What is opaque stays so.
  void extend(const std::vector<uint32_t>& items, PickleKind kind) {
    PickleValue* value = top();
    if (!value || value->kind == PickleKind::kOpaque) return;
    if (value->kind != kind) return refuse("items are added to a value that takes none");
    value->items.insert(value->items.end(), items.begin(), items.end());
  }
  void put(uint32_t slot) {
    if (top()) memo_[slot] = stack_.back();
  }
  void get(uint32_t slot) {
    const auto it = memo_.find(slot);
    if (it == memo_.end()) return refuse("a value is taken from an empty place");
    stack_.push_back(it->second);
  }
  void push_long(uint64_t bytes) {
    if (bytes > 8) {
      text(bytes);
      push({PickleKind::kOpaque, 0, {}, {}});
      return;
    }
    uint64_t value = 0;
    for (uint64_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(take<uint8_t>()) << (8 * i);
    if (bytes > 0 && bytes < 8 && (value >> (8 * bytes - 1) & 1) != 0) value |= ~uint64_t{0} << (8 * bytes);
    push_integer(static_cast<int64_t>(value));
  }

  // The result of calling `callee` with the tuple `arguments`: nothing is called.
  void reduce() {
    const uint32_t arguments = pop(), callee = pop();
    if (error_) return;
    const std::string& name = out_.values[callee].text;
    const std::vector<uint32_t> items = out_.values[arguments].items;  // a copy: values may move
    const bool global =
        out_.values[callee].kind == PickleKind::kGlobal && out_.values[arguments].kind == PickleKind::kTuple;
    if (global && (name == "torch._utils _rebuild_tensor_v2" || name == "torch._utils _rebuild_tensor") &&
        items.size() >= 4)
      return push({PickleKind::kTensor, 0, {}, {items[0], items[1], items[2], items[3]}});
    if (global && name.starts_with("torch._utils _rebuild_parameter") && !items.empty()) {
      stack_.push_back(items[0]);
      return;
    }
    if (global && name == "collections OrderedDict") {
      PickleValue dict{PickleKind::kDict, 0, {}, {}};
      // The only instruction that writes more than it read: a list given again and again would grow each
      // time.
      if (!items.empty()) {
        copied_ += out_.values[items[0]].items.size();
        if (copied_ > kMostValues || copied_ > in_.size()) return refuse("it copies lists again and again");
      }
      if (!items.empty())  // a list of pairs
        for (const uint32_t pair : out_.values[items[0]].items)
          if (const auto& of = out_.values[pair].items; of.size() == 2) {
            dict.items.push_back(of[0]);
            dict.items.push_back(of[1]);
          }
      return push(std::move(dict));
    }
    push({PickleKind::kOpaque, 0, {}, {}});
  }

  void step();

  std::span<const std::byte> in_;
  const std::string& name_;
  size_t at_ = 0;
  bool done_ = false;
  std::optional<std::string> error_;
  Pickle out_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::map<uint32_t, uint32_t> memo_;
  size_t copied_ = 0;  // items of lists that became dicts
};

void Machine::step() {
  const auto code = take<uint8_t>();
  if (error_) return;
  switch (code) {
    case 0x80:  // PROTO
      if (take<uint8_t>() > 5) refuse("its protocol is newer than 5");
      return;
    case 0x95:  // FRAME
      take<uint64_t>();
      return;
    case '.':  // STOP
      out_.root = pop();
      done_ = true;
      return;
    case '(':  // MARK
      return marks_.push_back(stack_.size());
    case '0':  // POP
      if (!marks_.empty() && stack_.size() == marks_.back())
        marks_.pop_back();
      else
        pop();
      return;
    case '1':  // POP_MARK
      since_mark();
      return;
    case '2':  // DUP
      if (top()) stack_.push_back(stack_.back());
      return;
    case 'N':
      return push({});
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      return push({PickleKind::kBool, code == 0x88, {}, {}});
    case 'J':
      return push_integer(take<int32_t>());
    case 'K':
      return push_integer(take<uint8_t>());
    case 'M':
      return push_integer(take<uint16_t>());
    case 0x8a:  // LONG1
      return push_long(take<uint8_t>());
    case 0x8b:  // LONG4
      return push_long(take<uint32_t>());
    case 'G':  // BINFLOAT
      take<uint64_t>();
      return push({PickleKind::kNumber, 0, {}, {}});
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
    case 'B':  // BINBYTES
      return push_text(text(take<uint32_t>()));
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING
    case 'C':   // SHORT_BINBYTES
      return push_text(text(take<uint8_t>()));
    case 0x8d:  // BINUNICODE8
    case 0x8e:  // BINBYTES8
    case 0x96:  // BYTEARRAY8
      return push_text(text(take<uint64_t>()));
    case ')':
      return push_tuple(0);
    case 0x85:
    case 0x86:
    case 0x87:
      return push_tuple(static_cast<size_t>(code - 0x84));
    case 't':  // TUPLE
    case 'l':  // LIST
      return push({PickleKind::kTuple, 0, {}, since_mark()});
    case ']':
      return push({PickleKind::kTuple, 0, {}, {}});
    case 'd':  // DICT
      return push({PickleKind::kDict, 0, {}, since_mark()});
    case '}':
      return push({PickleKind::kDict, 0, {}, {}});
    case 'a': {  // APPEND
      const uint32_t item = pop();
      return extend({item}, PickleKind::kTuple);
    }
    case 'e':  // APPENDS
      return extend(since_mark(), PickleKind::kTuple);
    case 's': {  // SETITEM
      const uint32_t value = pop(), key = pop();
      return extend({key, value}, PickleKind::kDict);
    }
    case 'u':  // SETITEMS
      return extend(since_mark(), PickleKind::kDict);
    case 'c': {  // GLOBAL
      const std::string module = line();
      return push_global(module, line());
    }
    case 0x93: {  // STACK_GLOBAL
      const uint32_t name = pop(), module = pop();
      if (error_) return;
      if (out_.at(module).kind != PickleKind::kText || out_.at(name).kind != PickleKind::kText)
        return refuse("a class is named by what is no text");
      return push_global(out_.at(module).text, out_.at(name).text);
    }
    case 'q':
      return put(take<uint8_t>());
    case 'r':
      return put(take<uint32_t>());
    case 0x94:  // MEMOIZE
      return put(static_cast<uint32_t>(memo_.size()));
    case 'h':
      return get(take<uint8_t>());
    case 'j':
      return get(take<uint32_t>());
    case 'R':
      return reduce();
    case 'b':  // BUILD: a state for an object; a dict has none that matters here
      pop();
      return;
    case 0x92:  // NEWOBJ_EX
      pop();
      [[fallthrough]];
    case 0x81:  // NEWOBJ
      pop();
      pop();
      return push({PickleKind::kOpaque, 0, {}, {}});
    case 'Q': {  // BINPERSID
      const uint32_t id = pop();
      return push({PickleKind::kStored, 0, {}, {id}});
    }
    case 0x8f:  // EMPTY_SET
      return push({PickleKind::kOpaque, 0, {}, {}});
    case 0x90:  // ADDITEMS
      since_mark();
      return;
    case 0x91:  // FROZENSET
      since_mark();
      return push({PickleKind::kOpaque, 0, {}, {}});
    default:
      refuse(strf("the instruction {} is none that torch.save writes", static_cast<int>(code)));
  }
}

}  // namespace

Result<Pickle> read_pickle(std::span<const std::byte> program, const std::string& name) {
  return Machine(program, name).run();
}

}  // namespace linnet::convert
