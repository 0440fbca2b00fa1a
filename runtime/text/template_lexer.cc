#include "runtime/text/template_lexer.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "runtime/core/strings.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

std::string with_plain_line_ends(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  return out;
}

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)) {
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    push(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const { throw Failure{message, line_}; }
  void push(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_, 0, 0}); }
  bool here(std::string_view what, size_t ahead = 0) const {
    return std::string_view(source_).substr(std::min(source_.size(), at_ + ahead)).starts_with(what);
  }
  void move_to(size_t at) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    line_starting_ = at > 0 && source_[at - 1] == '\n';
    at_ = at;
  }
  size_t behind_spaces(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!is_python_space(next_char(source_, next))) break;
      at = next;
    }
    return at;
  }

  // The data before a tag at `end`, as the tag's sign and the rules for tags alone on their line leave it.
  void push_data(size_t end, char sign, bool variable) {
    std::string text = source_.substr(at_, end - at_);
    if (sign == '-') {
      size_t kept = text.size();
      while (kept > 0) {
        size_t before = kept;
        if (!is_python_space(previous_char(text, before))) break;
        kept = before;
      }
      text.resize(kept);
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == text.npos ? 0 : newline + 1;
      if ((newline != text.npos || line_starting_) && begin < text.size() &&
          all_spaces(std::string_view(text).substr(begin)))
        text.resize(begin);
    }
    if (!text.empty()) push(TokenType::kData, std::move(text));
  }
  static bool all_spaces(std::string_view text) {
    for (size_t at = 0; at < text.size();)
      if (!is_python_space(next_char(text, at))) return false;
    return true;
  }
  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  void read_data() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == source_.npos || tag + 1 >= source_.size()) {
        push(TokenType::kData, source_.substr(at_));
        move_to(source_.size());
        return;
      }
      const char kind = source_[tag + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
      ++tag;
    }
    const char kind = source_[tag + 1], sign = sign_at(tag + 2);
    push_data(tag, sign, kind == '{');
    move_to(tag);
    if (kind == '%')
      if (const auto begin = behind_raw_begin(tag)) return read_raw(*begin);
    move_to(tag + 2 + (sign ? 1 : 0));
    if (kind == '#') return skip_comment();
    push(kind == '{' ? TokenType::kVariableBegin : TokenType::kBlockBegin, "");
    read_inside(kind == '{');
  }

  // Behind "%}" or its like at `at`, and what it swallows; nothing if it is not there.
  std::optional<size_t> behind_end(size_t at, std::string_view end) const {
    const std::string_view rest = std::string_view(source_).substr(std::min(at, source_.size()));
    if (rest.starts_with(end)) {
      const size_t behind = at + end.size();
      return behind + (end != "}}" && behind < source_.size() && source_[behind] == '\n' ? 1 : 0);
    }
    if (rest.size() > end.size() && rest.substr(1).starts_with(end)) {
      if (rest[0] == '-') return behind_spaces(at + 1 + end.size());
      if (rest[0] == '+' && end != "}}") return at + 1 + end.size();
    }
    return std::nullopt;
  }

  void skip_comment() {
    for (size_t at = at_; at < source_.size(); ++at)
      if (const auto behind = behind_end(at, "#}")) return move_to(*behind);
    refuse("a comment has no end: '#}' is missing");
  }

  std::optional<size_t> behind_raw_begin(size_t tag) const {
    size_t at = behind_spaces(tag + 2 + (sign_at(tag + 2) ? 1 : 0));
    if (!std::string_view(source_).substr(at).starts_with("raw")) return std::nullopt;
    at = behind_spaces(at + 3);
    const std::string_view rest = std::string_view(source_).substr(at);
    if (rest.starts_with("-%}")) return behind_spaces(at + 3);
    if (rest.starts_with("%}")) return at + 2;
    return std::nullopt;
  }

  void read_raw(size_t begin) {
    move_to(begin);
    for (size_t tag = source_.find("{%", at_); tag != source_.npos; tag = source_.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      const size_t word = behind_spaces(tag + 2 + (sign ? 1 : 0));
      if (!std::string_view(source_).substr(word).starts_with("endraw")) continue;
      const auto behind = behind_end(behind_spaces(word + 6), "%}");
      if (!behind) continue;
      push_data(tag, sign, false);
      return move_to(*behind);
    }
    refuse("'{% raw %}' has no end: '{% endraw %}' is missing");
  }

  void read_inside(bool variable) {
    std::string open;
    while (at_ < source_.size()) {
      if (open.empty()) {
        if (const auto behind = behind_end(at_, variable ? "}}" : "%}")) {
          push(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "");
          return move_to(*behind);
        }
      }
      const size_t spaces = behind_spaces(at_);
      if (spaces > at_)
        move_to(spaces);
      else
        read_token(open);
    }
  }

  void read_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit_char(c)) return read_number();
    if (c == '\'' || c == '"') return read_string(c);
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      const char32_t letter = next_char(source_, next);
      if (letter != '_' && !is_alpha(letter) && !(end > at_ && is_word(letter))) break;
      end = next;
    }
    if (end > at_) {
      push(TokenType::kName, source_.substr(at_, end - at_));
      return move_to(end);
    }
    for (const char* op : {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                           "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"}) {
      if (!here(op)) continue;
      balance(*op, open);
      push(TokenType::kOperator, op);
      return move_to(at_ + std::string_view(op).size());
    }
    size_t next = at_;
    next_char(source_, next);
    refuse(strf("an unexpected character '{}'", source_.substr(at_, next - at_)));
  }

  void balance(char c, std::string& open) const {
    if (c == '{' || c == '(' || c == '[') open += c == '{' ? '}' : c == '(' ? ')' : ']';
    if (c != '}' && c != ')' && c != ']') return;
    if (open.empty()) refuse(strf("an unexpected '{}'", c));
    if (open.back() != c) refuse(strf("an unexpected '{}': '{}' is open", c, open.back()));
    open.pop_back();
  }

  // Digits with single underscores between them, from `at`; the same place if there are none.
  size_t behind_digits(size_t at, unsigned base = 10) const {
    const auto digit = [&](size_t i) {
      if (i >= source_.size()) return false;
      const char c = source_[i];
      const int value = is_digit_char(c)                         ? c - '0'
                        : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                 : 99;
      return value < static_cast<int>(base);
    };
    while (digit(at) || (at < source_.size() && source_[at] == '_' && digit(at + 1) && at > 0 &&
                         (digit(at - 1) || base != 10)))
      ++at;
    return at;
  }

  void read_number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    size_t end = behind_digits(at_);
    bool real = false;
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && end + 1 < source_.size() &&
          is_digit_char(source_[end + 1])) {
        real = true;
        end = behind_digits(end + 1);
      }
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        size_t power = end + 1;
        if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
        if (power < source_.size() && is_digit_char(source_[power])) {
          real = true;
          end = behind_digits(power);
        }
      }
    }
    if (!real) return read_integer();
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    push(TokenType::kFloat, text);
    tokens_.back().real = std::strtod(text.c_str(), nullptr);
    move_to(end);
  }

  void read_integer() {
    size_t end = at_;
    const char letter = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    const unsigned base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    if (source_[at_] == '0' && base != 10 && behind_digits(at_ + 2, base) > at_ + 2) {
      end = behind_digits(at_ + 2, base);
    } else if (source_[at_] != '0') {
      end = behind_digits(at_);
    } else {
      while (end < source_.size() &&
             (source_[end] == '0' ||
              (source_[end] == '_' && end + 1 < source_.size() && source_[end + 1] == '0')))
        ++end;
    }
    const std::string text = source_.substr(at_, end - at_);
    push(TokenType::kInteger, text);
    try {
      tokens_.back().integer = parse_int(text, 0).value_or(0);
    } catch (Failure& failure) {
      failure.line = line_;
      throw;
    }
    move_to(end);
  }

  void read_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) refuse("a text in quotes has no end");
    push(TokenType::kString, unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    move_to(end + 1);
  }

  char32_t hexadecimal(std::string_view text, size_t at, size_t count) const {
    char32_t value = 0;
    for (size_t i = at; i < at + count; ++i) {
      const char c = i < text.size() ? text[i] : '\0';
      const int digit = is_digit_char(c)                         ? c - '0'
                        : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                 : -1;
      if (digit < 0) refuse("an escape of a character has too few hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    return value;
  }

  std::string unescaped(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t simple = kLetters.find(c); simple != kLetters.npos) {
        out += kMeanings[simple];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_escaped(out, hexadecimal(text, i + 1, count));
        i += count;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t n = 0;
        for (; n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7'; ++n)
          value = value * 8 + static_cast<char32_t>(text[i + n] - '0');
        append_escaped(out, value);
        i += n - 1;
      } else if (c == 'N') {
        throw Failure{"the escape '\\N{...}' is not supported: write the character itself", line_,
                      Failure::kUnsupported};
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }
  void append_escaped(std::string& out, char32_t c) const {
    if (c > 0x10FFFF) refuse("an escape stands for no character");
    if (c >= 0xD800 && c <= 0xDFFF)
      throw Failure{"an escape stands for half a character: write one \\U escape", line_,
                    Failure::kUnsupported};
    append_utf8(out, c);
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace linnet::text::jinja
