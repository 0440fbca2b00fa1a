#include "runtime/text/template_input.h"

#include <cstdlib>
#include <limits>
#include <optional>

#include "runtime/core/strings.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/utf8.h"

namespace linnet::text::jinja {
namespace {

class JsonReader {
 public:
  JsonReader(const Heap& heap, std::string_view json, bool user) : heap_(heap), json_(json), user_(user) {}

  Value run() {
    Value v = value(user_, 0);
    spaces();
    if (at_ < json_.size()) refuse("something follows it");
    return v;
  }
  // The end of a number at the beginning, as JSON writes it; 0 if there is none.
  size_t number_end(bool& real) const {
    size_t at = at_;
    const auto run = [&] {
      const size_t begin = at;
      while (at < json_.size() && json_[at] >= '0' && json_[at] <= '9') ++at;
      return at - begin;
    };
    if (at < json_.size() && json_[at] == '-') ++at;
    const size_t first = at;
    const size_t digits = run();
    if (digits == 0 || (digits > 1 && json_[first] == '0')) return 0;
    real = false;
    if (at < json_.size() && json_[at] == '.') {
      ++at;
      if (run() == 0) return 0;
      real = true;
    }
    if (at < json_.size() && (json_[at] | 0x20) == 'e') {
      ++at;
      if (at < json_.size() && (json_[at] == '+' || json_[at] == '-')) ++at;
      if (run() == 0) return 0;
      real = true;
    }
    return at;
  }

 private:
  [[noreturn]] void refuse(const char* why) const {
    fail_with(strf("it is not JSON: {} at byte {}", why, at_));
  }
  void spaces() {
    while (at_ < json_.size() && std::string_view(" \t\r\n").find(json_[at_]) != std::string_view::npos)
      ++at_;
  }
  bool accept(char c) {
    spaces();
    return at_ < json_.size() && json_[at_] == c && (++at_, true);
  }
  bool accept(std::string_view word) {
    if (!json_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Value value(bool user, int depth) {
    if (depth > kMostNesting - 20) refuse("it is nested too deeply");
    spaces();
    if (accept('{')) return object(user, depth);
    if (accept('[')) {
      List items;
      if (accept(']')) return heap_.list(std::move(items));
      do items.push_back(value(user, depth + 1));
      while (accept(','));
      if (!accept(']')) refuse("']' is missing");
      return heap_.list(std::move(items));
    }
    if (at_ < json_.size() && json_[at_] == '"') {
      std::string s = string();
      return user ? heap_.user_text(std::move(s)) : heap_.text(std::move(s));
    }
    if (accept("true")) return Value(true);
    if (accept("false")) return Value(false);
    if (accept("null")) return Value(None{});
    if (accept("NaN")) return Value(std::numeric_limits<double>::quiet_NaN());
    if (accept("Infinity")) return Value(std::numeric_limits<double>::infinity());
    if (accept("-Infinity")) return Value(-std::numeric_limits<double>::infinity());
    bool real = false;
    const size_t end = number_end(real);
    if (end == 0) refuse("a value is missing");
    const std::string digits(json_.substr(at_, end - at_));
    at_ = end;
    return real ? Value(std::strtod(digits.c_str(), nullptr)) : Value(parse_int(digits, 10).value_or(0));
  }

  Value object(bool user, int depth) {
    Dict dict;
    if (accept('}')) return heap_.dict(std::move(dict));
    do {
      spaces();
      if (at_ >= json_.size() || json_[at_] != '"') refuse("a name is missing");
      std::string key = string();
      if (!accept(':')) refuse("':' is missing");
      // At the top: what people wrote, beside what the template's user sets. A role is no free text.
      const bool inner_user =
          user || (depth == 0 && (key == "messages" || key == "tools" || key == "documents"));
      Value v = value(inner_user && !(key == "role" && depth == 2), depth + 1);
      dict.set(heap_.text(std::move(key)), std::move(v));
    } while (accept(','));
    if (!accept('}')) refuse("'}' is missing");
    return heap_.dict(std::move(dict));
  }

  unsigned four_digits() {
    unsigned value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = at_ < json_.size() ? json_[at_] : '\0';
      const int digit = c >= '0' && c <= '9'                     ? c - '0'
                        : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                 : -1;
      if (digit < 0) refuse("a hexadecimal digit is missing");
      value = value * 16 + static_cast<unsigned>(digit);
    }
    return value;
  }

  std::string string() {
    std::string out;
    for (++at_; at_ < json_.size() && json_[at_] != '"';) {
      if (json_[at_] != '\\') {
        out += json_[at_++];
        continue;
      }
      const char c = at_ + 1 < json_.size() ? json_[at_ + 1] : '\0';
      at_ += 2;
      constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
      if (const size_t i = kLetters.find(c); c && i != kLetters.npos) {
        out += kMeanings[i];
      } else if (c == 'u') {
        char32_t code = four_digits();
        if (code >= 0xD800 && code < 0xDC00 && accept("\\u"))
          code = 0x10000 + ((code - 0xD800) << 10) + (four_digits() - 0xDC00);
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) refuse("half a character");
        append_utf8(out, code);
      } else {
        refuse("an unknown escape");
      }
    }
    if (at_ >= json_.size()) refuse("'\"' is missing");
    ++at_;
    return out;
  }

  const Heap& heap_;
  std::string_view json_;
  bool user_;
  size_t at_ = 0;
};

}  // namespace

Value read_json(const Heap& heap, std::string_view json, bool user) {
  return JsonReader(heap, json, user).run();
}

Value read_variable(const Heap& heap, std::string_view text, bool user) {
  if (text == "true" || text == "True") return Value(true);
  if (text == "false" || text == "False") return Value(false);
  if (text == "null" || text == "None") return Value(None{});
  bool real = false;
  const bool number = !text.empty() && JsonReader(heap, text, false).number_end(real) == text.size();
  if (number || text.starts_with('{') || text.starts_with('[') || text.starts_with('"'))
    return JsonReader(heap, text, user).run();
  return user ? heap.user_text(std::string(text)) : heap.text(std::string(text));
}

}  // namespace linnet::text::jinja
