// What Python's str methods and Jinja's text filters do, on UTF-8 text. Cases are ASCII's: roles and flags.
#pragma once

#include <string>

#include "runtime/text/template_value.h"

namespace linnet::text::jinja {

inline constexpr const char* kSpaces = " \t\n\r\f\v";

std::string stripped(const std::string& s, const std::string& characters, bool left, bool right);
std::string cased(std::string s, bool upper);
std::string capitalized(std::string s);
std::string titled(std::string s);
// At most `most` times; negative: all. Throws Failure when the result is too long.
std::string replaced(const std::string& s, const std::string& from, const std::string& to, int64_t most);
// At spaces where there is no separator. At most `most` cuts; negative: all.
List split(const std::string& s, const Value* separator, int64_t most, bool from_right);
// How many parts split() can make at most, for the count of steps.
int64_t most_parts(const std::string& s, const Value* by);

}  // namespace linnet::text::jinja
