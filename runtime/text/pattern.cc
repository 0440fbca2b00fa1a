#include "runtime/text/pattern.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <vector>

#include "runtime/core/strings.h"
#include "runtime/text/pattern_classes.h"

namespace linnet::text {
namespace {

constexpr int kDeepest = 16;  // classes in classes; more is no tokenizer's

// The characters of one side of an intersection: a PCRE2 class's inside, and expressions for one character
// that no class can hold.
struct Union {
  std::string inside;
  std::vector<std::string> others;

  void add(const CharacterSet& set) {
    if (!set.negated)
      inside += set.inside;
    else if (set.single())
      inside += set.written();
    else
      others.push_back(set.written());
  }
  std::string written() const {
    std::string out = inside.empty() ? "" : inside[0] == '^' ? "[\\" + inside + "]" : "[" + inside + "]";
    if (others.empty()) return out.empty() ? "(?!)" : out;
    for (const std::string& other : others) out += (out.empty() ? "" : "|") + other;
    return "(?:" + out + ")";
  }
};

// The class at `at`, as an expression for one character; moves `at` behind it.
std::optional<std::string> read_class(std::string_view pattern, size_t& at, int depth) {
  if (depth > kDeepest) return std::nullopt;
  ++at;  // the bracket
  const bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  std::vector<Union> sides(1);
  if (at < pattern.size() && pattern[at] == ']') sides.back().inside += pattern[at++];  // a literal bracket
  while (at < pattern.size() && pattern[at] != ']') {
    Union& side = sides.back();
    const std::string_view rest = pattern.substr(at);
    if (rest.starts_with("&&")) {
      sides.emplace_back();
      at += 2;
    } else if (rest[0] == '[' && !rest.starts_with("[:")) {
      auto inner = read_class(pattern, at, depth + 1);
      if (!inner) return std::nullopt;
      side.others.push_back(std::move(*inner));
    } else if (rest[0] == '[') {  // [:alpha:]
      const size_t end = rest.find(":]");
      if (end == rest.npos) return std::nullopt;
      const bool other = rest.substr(2).starts_with('^');
      if (auto set = posix_class(rest.substr(2 + other, end - 2 - other))) {
        set->negated ^= other;
        side.add(*set);
      } else {
        side.inside += rest.substr(0, end + 2);
      }
      at += end + 2;
    } else if (rest[0] == '\\' && rest.size() > 1) {
      if (const auto set = escaped_class(pattern, at, false))
        side.add(*set);
      else if (rest[1] == 'b')
        side.inside += "\\x08", at += 2;
      else
        side.inside += escaped_character(pattern, at);
    } else {
      side.inside += rest[0];
      ++at;
    }
  }
  if (at == pattern.size()) return std::nullopt;
  ++at;
  if (sides.size() == 1 && sides[0].others.empty())
    return strf("[{}{}]", negated ? "^" : "", sides[0].inside);
  std::string both;
  for (size_t i = 0; i + 1 < sides.size(); ++i) both += "(?=" + sides[i].written() + ")";
  both += sides.back().written();
  return negated ? "(?:(?!" + both + ")(?s:.))" : "(?:" + both + ")";
}

// A counted quantifier at `at`: {2}, {2,}, {,3} or {2,3}.
struct Count {
  std::string written;
  bool exact = false;
  size_t length = 0;  // 0: it is none
};
Count read_count(std::string_view rest) {
  size_t i = 1;
  const auto digits = [&] {
    const size_t begin = i;
    while (i < rest.size() && rest[i] >= '0' && rest[i] <= '9') ++i;
    return rest.substr(begin, i - begin);
  };
  const std::string_view least = digits();
  const bool comma = i < rest.size() && rest[i] == ',';
  if (comma) ++i;
  const std::string_view most = comma ? digits() : std::string_view();
  if (i >= rest.size() || rest[i] != '}' || (least.empty() && most.empty())) return {};
  std::string written =
      "{" + std::string(least.empty() ? "0" : least) + (comma ? "," : "") + std::string(most) + "}";
  return {std::move(written), !comma, i + 1};
}

// Letters whose case folding is that of one character more.
constexpr std::array<std::array<std::string_view, 2>, 7> kFolded = {{{"ffi", R"(\x{FB03})"},
                                                                     {"ffl", R"(\x{FB04})"},
                                                                     {"ff", R"(\x{FB00})"},
                                                                     {"fi", R"(\x{FB01})"},
                                                                     {"fl", R"(\x{FB02})"},
                                                                     {"ss", R"([\x{DF}\x{1E9E}])"},
                                                                     {"st", R"(\x{FB05})"}}};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    groups_.push_back({0, 0, false, false});
    while (at_ < in_.size() && !broken_) step();
    if (!broken_) out_.append(static_cast<size_t>(groups_.back().opened), ')');
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin;  // in out_
    int opened;    // groups that options in the middle have opened
    bool caseless, extended;
  };
  static constexpr size_t kNone = std::string::npos;

  void atom(std::string_view text) {
    atom_ = out_.size();
    quantified_ = false;
    out_ += text;
  }
  void no_atom(std::string_view text) {
    out_ += text;
    atom_ = kNone;
  }

  void step() {
    const std::string_view rest = in_.substr(at_);
    const char c = rest[0];
    if (groups_.back().extended && (std::isspace(static_cast<unsigned char>(c)) || c == '#')) {
      const size_t end = c == '#' ? std::min(rest.find('\n'), rest.size()) : 1;
      at_ += end;
    } else if (c == '[') {
      const auto written = read_class(in_, at_, 0);
      broken_ = !written;
      atom(written ? *written : "[");  // with the missing bracket that PCRE2 tells of
    } else if (c == '\\' && rest.size() > 1) {
      if (rest[1] == 'b' || rest[1] == 'B')
        atom(word_boundary(rest[1] == 'B')), at_ += 2;
      else if (const auto set = escaped_class(in_, at_, true))
        atom(set->written());
      else
        atom(escaped_character(in_, at_));
    } else if (c == '(') {
      open(rest);
    } else if (c == ')') {
      close();
    } else if (c == '|') {
      no_atom("|");
      ++at_;
    } else if (c == '*' || c == '+' || c == '?') {
      quantifier(std::string(1, c), 1, false);
    } else if (const Count count = c == '{' ? read_count(rest) : Count(); count.length) {
      quantifier(count.written, count.length, true, count.exact);
    } else {
      literal(rest);
    }
  }

  void literal(std::string_view rest) {
    if (groups_.back().caseless)
      for (const auto& [letters, other] : kFolded) {
        const std::string_view here = rest.substr(0, letters.size());
        const auto folds = [](char a, char b) { return (a | 0x20) == b; };
        if (!std::equal(here.begin(), here.end(), letters.begin(), letters.end(), folds)) continue;
        const std::string_view behind = rest.substr(letters.size(), 1);
        if (!behind.empty() && std::string_view("*+?{").find(behind[0]) != std::string_view::npos) continue;
        atom(strf("(?:{}|{})", here, other));
        at_ += letters.size();
        return;
      }
    size_t size = 1;  // the whole character, which a quantifier is for
    while (size < rest.size() && (static_cast<unsigned char>(rest[size]) & 0xC0) == 0x80) ++size;
    atom(rest.substr(0, size));
    at_ += size;
  }

  void quantifier(const std::string& written, size_t length, bool counted, bool exact = false) {
    at_ += length;
    if (atom_ == kNone) {
      out_ += written;
      return;
    }
    if (quantified_) wrap("(?:", ")");
    out_ += written;
    quantified_ = true;
    const char next = at_ < in_.size() ? in_[at_] : '\0';
    if (next == '?' && exact) {  // {n}? is not lazy: all of it, or nothing
      wrap("(?:", ")?");
      ++at_;
    } else if (next == '?' || (next == '+' && !counted)) {
      out_ += next;
      ++at_;
    }
    // A + behind {n,m} is a quantifier of its own: the next step wraps.
  }

  void wrap(std::string_view before, std::string_view behind) {
    out_.insert(atom_, before);
    out_ += behind;
  }

  void open(std::string_view rest) {
    if (rest.starts_with("(?#")) {
      at_ += std::min(rest.find(')'), rest.size() - 1) + 1;
      return;
    }
    Group inner = {out_.size(), 0, groups_.back().caseless, groups_.back().extended};
    if (!rest.starts_with("(?")) {
      no_atom("(");
      groups_.push_back(inner);
      ++at_;
      return;
    }
    const size_t end = rest.find_first_not_of("imx-", 2);
    if (end == rest.npos || end == 2 || (rest[end] != ')' && rest[end] != ':')) {
      // A look-around, an atomic or a named group; what is none of them PCRE2 refuses.
      size_t size = 3;
      if (rest.starts_with("(?<=") || rest.starts_with("(?<!")) size = 4;
      no_atom(rest.substr(0, size));
      groups_.push_back(inner);
      at_ += std::min(size, rest.size());
      return;
    }
    bool on = true;
    std::string flags;
    for (const char flag : rest.substr(2, end - 2)) {
      if (flag == '-') on = false;
      if (flag == 'i') inner.caseless = on;
      if (flag == 'x') {
        inner.extended = on;  // white space is dropped here
        continue;
      }
      flags += flag == 'm' ? 's' : flag;
    }
    if (flags.ends_with('-')) flags.pop_back();
    no_atom("(?" + flags + ":");
    at_ += end + 1;
    if (rest[end] == ':') {
      groups_.push_back(inner);
    } else {  // to the end of the group, alternatives and all
      Group& group = groups_.back();
      ++group.opened;
      group.caseless = inner.caseless;
      group.extended = inner.extended;
    }
  }

  void close() {
    ++at_;
    const Group group = groups_.back();
    out_.append(static_cast<size_t>(group.opened) + 1, ')');
    if (groups_.size() > 1) groups_.pop_back();
    atom_ = group.begin;
    quantified_ = false;
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  std::vector<Group> groups_;
  size_t atom_ = kNone;  // where the last one begins in out_
  bool quantified_ = false, broken_ = false;
};

}  // namespace

std::string portable_pattern(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace linnet::text
