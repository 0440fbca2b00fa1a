// Letters, cases and numbers of Unicode text as Python's str methods see them: full case mappings (one
// character may become three), the final sigma, and the character classes behind isalpha() and its like.
#pragma once

#include <string>
#include <string_view>

namespace linnet::text {

// All of valid UTF-8. As str.lower(), upper(), casefold(), title(), capitalize() and swapcase().
std::string lower_case(std::string_view text);
std::string upper_case(std::string_view text);
std::string fold_case(std::string_view text);
std::string title_case(std::string_view text);
std::string capital_case(std::string_view text);
std::string swap_case(std::string_view text);

// str.isspace(), which is what strip() and split() go by: Unicode's White_Space and the separators U+001C to
// U+001F.
bool is_python_space(char32_t c);
// Where str.splitlines() ends a line.
bool is_line_end(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
// What repr() writes as it is.
bool is_printable(char32_t c);
// The value of a decimal digit of any script.
int decimal_value(char32_t c);

}  // namespace linnet::text
