#include "runtime/text/template_lexer.h"

#include <algorithm>

#include "runtime/text/template_value.h"

namespace linnet::text::jinja {
namespace {

constexpr size_t kMostSource = size_t{1} << 20;

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      add_text(tag);
      if (tag == std::string_view::npos) break;
      advance(tag);
      read_tag();
    }
    tokens_.push_back({TokenType::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { throw Failure{what, line_}; }

  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }

  size_t next_tag() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#'))
        return i;
    return std::string_view::npos;
  }

  // The literal text before a tag, with what the tags on both sides strip.
  void add_text(size_t tag) {
    const size_t end = tag == std::string_view::npos ? source_.size() : tag;
    std::string_view text = source_.substr(at_, end - at_);
    if (strip_next_) {
      const size_t first = text.find_first_not_of(" \t\r\n");
      text = first == std::string_view::npos ? std::string_view() : text.substr(first);
    } else if (trim_next_) {  // trim_blocks: the first newline after a block
      if (text.starts_with("\r\n"))
        text.remove_prefix(2);
      else if (text.starts_with('\n'))
        text.remove_prefix(1);
    }
    const bool line_start_known =
        at_ == 0 || source_[at_ - 1] == '\n' ||
        (end > at_ && source_.substr(at_, end - at_).find('\n') != std::string_view::npos);
    strip_next_ = trim_next_ = false;
    if (tag != std::string_view::npos && tag + 2 < source_.size()) {
      const char kind = source_[tag + 1], mark = source_[tag + 2];
      if (mark == '-') {
        const size_t last = text.find_last_not_of(" \t\r\n");
        text = last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
      } else if (kind != '{' && mark != '+' && line_start_known) {  // lstrip_blocks
        const size_t last = text.find_last_not_of(" \t");
        if (last == std::string_view::npos)
          text = {};
        else if (text[last] == '\n')
          text = text.substr(0, last + 1);
      }
    }
    // keep_trailing_newline is off: one newline at the very end of the template goes.
    if (tag == std::string_view::npos && text.ends_with('\n')) text.remove_suffix(1);
    if (!text.empty()) tokens_.push_back({TokenType::kText, std::string(text), line_});
  }

  void read_tag() {
    const char kind = source_[at_ + 1];
    at_ += 2;
    if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
    if (kind == '#') {
      const size_t end = source_.find("#}", at_);
      if (end == std::string_view::npos) refuse("a comment is not closed");
      const char mark = source_[end - 1];
      advance(end + 2);
      strip_next_ = mark == '-';
      trim_next_ = mark != '+';
      return;
    }
    tokens_.push_back({kind == '{' ? TokenType::kOutputBegin : TokenType::kBlockBegin, "", line_});
    read_inside(kind == '{');
  }

  void read_inside(bool output) {
    const std::string_view close = output ? "}}" : "%}";
    int depth = 0;  // of braces: {{ {"a": {}}["a"] }}
    while (true) {
      while (at_ < source_.size() && std::string_view(" \t\r\n").find(source_[at_]) != std::string_view::npos)
        advance(at_ + 1);
      if (at_ >= source_.size()) refuse("a tag is not closed");
      const std::string_view rest = source_.substr(at_);
      const bool marked = (rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(close);
      if (depth == 0 && (rest.starts_with(close) || marked)) {
        if (marked) strip_next_ = rest[0] == '-';
        trim_next_ = !output && !(marked && rest[0] == '+');
        at_ += close.size() + (marked ? 1 : 0);
        tokens_.push_back({output ? TokenType::kOutputEnd : TokenType::kBlockEnd, "", line_});
        return;
      }
      read_token(rest, depth);
    }
  }

  void read_token(std::string_view rest, int& depth) {
    const auto name_char = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (rest[0] == '"' || rest[0] == '\'') return read_string(rest[0]);
    size_t n = 0;
    if (digit(rest[0])) {
      while (n < rest.size() && (digit(rest[n]) || rest[n] == '_')) ++n;
      const bool real = n + 1 < rest.size() && rest[n] == '.' && digit(rest[n + 1]);
      if (real)
        for (++n; n < rest.size() && digit(rest[n]);) ++n;
      if (n > 40) refuse("a number is too long");
      push(real ? TokenType::kFloat : TokenType::kInteger, rest.substr(0, n));
      return;
    }
    if (name_char(rest[0])) {
      while (n < rest.size() && name_char(rest[n])) ++n;
      push(TokenType::kName, rest.substr(0, n));
      return;
    }
    for (const std::string_view op : {"**", "//", "==", "!=", "<=", ">="}) {
      if (rest.starts_with(op)) return push(TokenType::kOperator, op);
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(rest[0]) == std::string_view::npos)
      refuse(std::string("an unexpected character '") + rest[0] + "'");
    if (rest[0] == '{' || rest[0] == '[' || rest[0] == '(') ++depth;
    if (rest[0] == '}' || rest[0] == ']' || rest[0] == ')') --depth;
    push(TokenType::kOperator, rest.substr(0, 1));
  }

  void push(TokenType type, std::string_view text) {
    tokens_.push_back({type, std::string(text), line_});
    advance(at_ + text.size());
  }

  void read_string(char quote) {
    std::string value;
    const int line = line_;
    size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        value += source_[i];
        continue;
      }
      switch (const char c = source_[++i]) {
        case 'n':
          value += '\n';
          break;
        case 't':
          value += '\t';
          break;
        case 'r':
          value += '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          value += c;
          break;
        case '\n':
          break;
        case 'u':
          i += append_code(value, i + 1);
          break;
        default:
          value += '\\', value += c;
      }
    }
    if (i >= source_.size()) refuse("a string is not closed");
    tokens_.push_back({TokenType::kString, std::move(value), line});
    advance(i + 1);
  }

  size_t append_code(std::string& value, size_t from) {
    uint32_t code = 0;
    for (size_t i = 0; i < 4; ++i) {
      const char c = from + i < source_.size() ? source_[from + i] : ' ';
      const size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
      if (digit == std::string_view::npos) refuse("a \\u escape needs four hexadecimal digits");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    if (code < 0x80) {
      value += static_cast<char>(code);
    } else if (code < 0x800) {
      value += static_cast<char>(0xC0 | code >> 6);
      value += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      value += static_cast<char>(0xE0 | code >> 12);
      value += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      value += static_cast<char>(0x80 | (code & 0x3F));
    }
    return 4;
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool strip_next_ = false, trim_next_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMostSource) throw Failure{"it is longer than 1 MiB", 0, false, true};
  return Lexer(source).run();
}

}  // namespace linnet::text::jinja
