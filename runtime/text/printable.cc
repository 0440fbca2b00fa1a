#include "runtime/text/printable.h"

#include <cstdint>
#include <cstdio>

#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

bool is_control(char32_t c) {
  return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029;
}
// The marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm.
bool turns(char32_t c) {
  return c == 0x61C || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

void append_escape(std::string& out, const char* pattern, uint32_t number) {
  char text[16];
  std::snprintf(text, sizeof(text), pattern, number);
  out += text;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = find_invalid_utf8(text).value_or(text.size());
    for (size_t at = 0; at < valid;) {
      const size_t begin = at;
      const char32_t c = next_char(text, at);
      if (!is_control(c) && !turns(c))
        out.append(text, begin, at - begin);
      else
        append_escape(out, c < 0x100 ? "\\x%02x" : "\\u{%x}", static_cast<uint32_t>(c));
    }
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_escape(out, "\\x%02x", static_cast<unsigned char>(text[0]));
    text.remove_prefix(1);
  }
  return out;
}

std::string printable_line(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else
      out += c;
  }
  return out;
}

}  // namespace linnet::text
