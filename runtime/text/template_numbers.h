// Python's numbers: integers (of 64 bits; what leaves them is refused by name) and floats.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/text/template_value.h"

namespace linnet::text::jinja {

// -1, 0, 1; 2 where one is not a number.
int compare_numbers(const Value& a, const Value& b);
// + - * / // % ** between numbers.
Value arithmetic(std::string_view op, const Value& a, const Value& b);
Value negated(const Value& v);
Value rounded(const Value& v, int64_t digits);
int64_t truncated(double d);  // int(d); throws for what is no number, infinite or beyond 64 bits
int64_t multiplied(int64_t a, int64_t b);
int64_t added(int64_t a, int64_t b);

std::string float_text(double d);  // repr(d)
// int(text, base) and float(text); nothing where Python raises ValueError.
std::optional<int64_t> parse_int(std::string_view text, int64_t base);
std::optional<double> parse_float(std::string_view text);
// An integer in base 2, 8, 10 or 16, without a sign.
std::string digits_of(uint64_t magnitude, unsigned base, bool upper);
// A finite or infinite float as %e, %f or %g write it, without a sign; `alternative`: as the flag '#'.
std::string float_digits(double magnitude, char type, int precision, bool alternative);

}  // namespace linnet::text::jinja
