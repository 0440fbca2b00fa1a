#include "runtime/text/utf8_case.h"

#include <utf8proc.h>

#include <algorithm>
#include <span>

#include "runtime/text/unicode_tables.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

bool within(std::span<const CodePointRange> ranges, char32_t c) {
  const auto it =
      std::ranges::upper_bound(ranges, c, {}, [](const CodePointRange& range) { return range.first; });
  return it != ranges.begin() && c <= std::prev(it)->last;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

enum class Case { kLower, kTitle, kUpper };

void append_mapped(std::string& out, char32_t c, Case to) {
  if (c < 0x80) {
    const bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
    out += static_cast<char>(lower && to != Case::kLower ? c - 32 : upper && to == Case::kLower ? c + 32 : c);
    return;
  }
  const auto special = std::ranges::lower_bound(kSpecialCases, c, {}, &SpecialCase::c);
  if (special != std::end(kSpecialCases) && special->c == c) {
    const auto& mapped = to == Case::kLower   ? special->lower
                         : to == Case::kTitle ? special->title
                                              : special->upper;
    for (const char32_t m : mapped)
      if (m) append_utf8(out, m);
    return;
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  const utf8proc_int32_t mapped = to == Case::kLower   ? utf8proc_tolower(code)
                                  : to == Case::kTitle ? utf8proc_totitle(code)
                                                       : utf8proc_toupper(code);
  append_utf8(out, static_cast<char32_t>(mapped));
}

bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }

bool is_case_ignorable(char32_t c) {
  constexpr std::u32string_view kMarks =
      U"'.:^`\u00A8\u00AD\u00AF\u00B4\u00B7\u00B8\u0387\u055F\u05F4\u2018"
      U"\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A";
  if (kMarks.find(c) != kMarks.npos) return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return false;
  }
}

// A capital sigma that ends a word: a cased letter before it and none behind it.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  bool before = false;
  for (size_t at = begin; at > 0;) {
    const char32_t c = previous_char(text, at);
    if (is_case_ignorable(c)) continue;
    before = is_cased(c);
    break;
  }
  if (!before) return false;
  for (size_t at = end; at < text.size();) {
    const char32_t c = next_char(text, at);
    if (is_case_ignorable(c)) continue;
    return !is_cased(c);
  }
  return true;
}

// The character at `at`, which is moved behind it.
void append_lower(std::string& out, std::string_view text, size_t& at) {
  const size_t begin = at;
  const char32_t c = next_char(text, at);
  if (c == U'\u03A3')
    append_utf8(out, is_final_sigma(text, begin, at) ? U'\u03C2' : U'\u03C3');
  else
    append_mapped(out, c, Case::kLower);
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_lower(out, text, at);
  return out;
}

std::string upper_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_mapped(out, next_char(text, at), Case::kUpper);
  return out;
}

std::string fold_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_char(text, at);
    utf8proc_int32_t folded[8];
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 8, UTF8PROC_CASEFOLD, nullptr);
    if (n <= 0) append_utf8(out, c);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(n, 8); ++i)
      append_utf8(out, static_cast<char32_t>(folded[i]));
  }
  return out;
}

std::string title_case(std::string_view text) {
  std::string out;
  bool within_word = false;
  for (size_t at = 0; at < text.size();) {
    size_t next = at;
    const char32_t c = next_char(text, next);
    if (within_word)
      append_lower(out, text, at);
    else
      append_mapped(out, c, Case::kTitle);
    at = next;
    within_word = is_cased(c);
  }
  return out;
}

std::string capital_case(std::string_view text) {
  std::string out;
  size_t at = 0;
  if (!text.empty()) append_mapped(out, next_char(text, at), Case::kTitle);
  while (at < text.size()) append_lower(out, text, at);
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t next = at;
    const char32_t c = next_char(text, next);
    if (is_upper(c))
      append_lower(out, text, at);
    else if (is_lower(c))
      append_mapped(out, c, Case::kUpper);
    else
      append_utf8(out, c);
    at = next;
  }
  return out;
}

bool is_python_space(char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }
bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}
bool is_lower(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL || within(kOtherLower, c); }
bool is_upper(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU || within(kOtherUpper, c); }
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_alpha(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) { return is_decimal(c) || within(kDigits, c); }
bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
         within(kNumericLetters, c);
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

int decimal_value(char32_t c) {
  // Decimal digits stand in runs of ten that begin with zero.
  char32_t first = c;
  while (first > 0 && is_decimal(first - 1)) --first;
  return static_cast<int>((c - first) % 10);
}

}  // namespace linnet::text
