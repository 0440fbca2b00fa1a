#include "runtime/text/template_numbers.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

[[noreturn]] void too_large() { unsupported("an integer of more than 64 bits"); }

int sign_of(double d) { return d < 0 ? -1 : d > 0 ? 1 : 0; }

int compare_mixed(int64_t i, double d) {
  if (std::isnan(d)) return 2;
  if (d >= 9223372036854775808.0) return -1;
  if (d < -9223372036854775808.0) return 1;
  const auto whole = static_cast<int64_t>(d);
  if (i != whole) return i < whole ? -1 : 1;
  return -sign_of(d - static_cast<double>(whole));
}

Value int_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail_with("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  for (int64_t left = exponent; left > 0; left >>= 1) {
    if (left & 1) result = multiplied(result, base);
    if (left > 1 && (base > 1 || base < -1)) base = multiplied(base, base);
    if (base == -1 && left > 1) base = 1;
  }
  return Value(result);
}

Value float_power(double a, double b) {
  if (a == 0 && b < 0) fail_with("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) unsupported("a complex number");
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) fail_with("a float is too large");
  return Value(result);
}

Value int_arithmetic(std::string_view op, int64_t a, int64_t b) {
  if (op == "+") return Value(added(a, b));
  if (op == "-") {
    int64_t result;
    if (__builtin_sub_overflow(a, b, &result)) too_large();
    return Value(result);
  }
  if (op == "*") return Value(multiplied(a, b));
  if (op == "**") return int_power(a, b);
  if (b == 0) fail_with("division by zero");
  if (op == "/") return Value(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
  if (b == -1) return op == "//" ? negated(Value(a)) : Value(int64_t{0});
  const int64_t rest = a % b;  // Python's sign: the divisor's
  const bool other_sign = rest != 0 && (rest < 0) != (b < 0);
  return op == "//" ? Value(a / b - (other_sign ? 1 : 0)) : Value(other_sign ? rest + b : rest);
}

Value float_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return float_power(a, b);
  if (b == 0) fail_with("float division by zero");
  if (op == "/") return Value(a / b);
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) {
    rest += b;
    quotient -= 1;
  } else if (rest == 0) {
    rest = std::copysign(0.0, b);
  }
  if (op == "%") return Value(rest);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double floored = std::floor(quotient);
  return Value(quotient - floored > 0.5 ? floored + 1 : floored);
}

// Spaces around and underscores between digits are gone, digits of other scripts are ASCII's. Nothing where
// the text cannot be a number.
std::optional<std::string> plain_number(std::string_view text, bool hexadecimal) {
  size_t begin = 0, end = text.size();
  while (begin < end) {
    size_t next = begin;
    if (!is_python_space(next_char(text, next))) break;
    begin = next;
  }
  while (end > begin) {
    size_t before = end;
    if (!is_python_space(previous_char(text, before))) break;
    end = before;
  }
  std::string out;
  for (size_t at = begin; at < end;) {
    const char32_t c = next_char(text, at);
    if (c >= 0x80 && !is_decimal(c)) return std::nullopt;
    out += c < 0x80 ? static_cast<char>(c) : static_cast<char>('0' + decimal_value(c));
  }
  const auto digit = [&](size_t i) {
    return i < out.size() && (hexadecimal ? std::isalnum(static_cast<unsigned char>(out[i])) != 0
                                          : out[i] >= '0' && out[i] <= '9');
  };
  std::string result;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] != '_')
      result += out[i];
    else if (i == 0 || !digit(i - 1) || !digit(i + 1))
      return std::nullopt;
  }
  return result;
}

}  // namespace

int64_t added(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_add_overflow(a, b, &result)) too_large();
  return result;
}

int64_t multiplied(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) too_large();
  return result;
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.integral() && b.integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  if (a.integral()) return compare_mixed(a.integer(), b.as_real());
  if (b.integral()) {
    const int order = compare_mixed(b.integer(), a.as_real());
    return order == 2 ? 2 : -order;
  }
  if (std::isnan(a.as_real()) || std::isnan(b.as_real())) return 2;
  return a.as_real() < b.as_real() ? -1 : a.as_real() > b.as_real() ? 1 : 0;
}

Value arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (a.integral() && b.integral()) return int_arithmetic(op, a.integer(), b.integer());
  return float_arithmetic(op, a.as_real(), b.as_real());
}

Value negated(const Value& v) {
  if (v.real()) return Value(-v.as_real());
  if (v.integer() == std::numeric_limits<int64_t>::min()) too_large();
  return Value(-v.integer());
}

Value rounded(const Value& v, int64_t digits) {
  if (v.integral()) {
    if (digits >= 0) return Value(v.integer());
    if (digits < -18) return Value(int64_t{0});
    const int64_t unit = int_power(10, -digits).integer();
    const int64_t half = unit / 2;
    const Value rest = int_arithmetic("%", v.integer(), unit);
    int64_t result = v.integer() - rest.integer();
    const bool odd = (result / unit) % 2 != 0;
    if (rest.integer() > half || (rest.integer() == half && odd)) result = added(result, unit);
    return Value(result);
  }
  const double d = v.as_real();
  if (!std::isfinite(d) || digits > 323) return v;
  if (digits >= 0) {
    std::array<char, 700> buffer;
    std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), d);
    return Value(std::strtod(buffer.data(), nullptr));
  }
  if (digits < -308) return Value(std::copysign(0.0, d));
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return Value(std::nearbyint(d / unit) * unit);
}

int64_t truncated(double d) {
  if (std::isnan(d)) fail_with("cannot convert float NaN to integer");
  if (std::isinf(d)) fail_with("cannot convert float infinity to integer");
  if (d >= 9223372036854775808.0 || d < -9223372036854775808.0) too_large();
  return static_cast<int64_t>(d);
}

std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::fabs(d),
                                 std::chars_format::scientific);
  const std::string_view all(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  const size_t e = all.find('e');
  std::string digits(all.substr(0, 1));
  if (e > 2) digits += all.substr(2, e - 2);
  const int exponent = std::atoi(std::string(all.substr(e + 1)).c_str());
  std::string out = std::signbit(d) ? "-" : "";
  const auto n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += '.' + digits.substr(1);
    const std::string power = std::to_string(std::abs(exponent));
    return out + (exponent < 0 ? "e-" : "e+") + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (exponent >= n - 1) return out + digits + std::string(static_cast<size_t>(exponent - n + 1), '0') + ".0";
  return out + digits.substr(0, static_cast<size_t>(exponent) + 1) + '.' +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  auto plain = plain_number(text, true);
  if (!plain || (base != 0 && (base < 2 || base > 36))) return std::nullopt;
  std::string_view rest = *plain;
  bool negative = false;
  if (rest.starts_with('+') || rest.starts_with('-')) {
    negative = rest.front() == '-';
    rest.remove_prefix(1);
  }
  bool prefixed = false;
  for (const auto& [letter, value] : {std::pair<char, int64_t>{'x', 16}, {'o', 8}, {'b', 2}})
    if (!prefixed && rest.size() > 2 && rest[0] == '0' && (rest[1] | 0x20) == letter &&
        (base == value || base == 0)) {
      base = value;
      prefixed = true;
    }
  if (prefixed) rest.remove_prefix(2);
  if (base == 0) {
    if (rest.size() > 1 && rest[0] == '0' && rest.find_first_not_of('0') != rest.npos) return std::nullopt;
    base = 10;
  }
  if (rest.empty()) return std::nullopt;
  uint64_t magnitude = 0;
  bool large = false;
  for (const char c : rest) {
    const int64_t digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'z' ? c - 'a' + 10
                          : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                                 : 99;
    if (digit >= base) return std::nullopt;
    large = large || __builtin_mul_overflow(magnitude, static_cast<uint64_t>(base), &magnitude) ||
            __builtin_add_overflow(magnitude, static_cast<uint64_t>(digit), &magnitude);
  }
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (large || magnitude > kMost + (negative ? 1 : 0)) too_large();
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

std::optional<double> parse_float(std::string_view text) {
  const auto plain = plain_number(text, false);
  if (!plain || plain->empty()) return std::nullopt;
  std::string lower;
  for (const char c : *plain) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  std::string_view rest = lower;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (rest == "inf" || rest == "infinity") return negative ? -kInfinity : kInfinity;
  if (rest == "nan") return std::numeric_limits<double>::quiet_NaN();
  size_t at = 0, digits = 0;
  const auto run = [&] {
    while (at < rest.size() && rest[at] >= '0' && rest[at] <= '9') ++at, ++digits;
  };
  run();
  if (at < rest.size() && rest[at] == '.') ++at, run();
  if (digits == 0) return std::nullopt;
  if (at < rest.size() && rest[at] == 'e') {
    ++at;
    if (at < rest.size() && (rest[at] == '+' || rest[at] == '-')) ++at;
    digits = 0;
    run();
    if (digits == 0) return std::nullopt;
  }
  if (at != rest.size()) return std::nullopt;
  const double d = std::strtod(std::string(rest).c_str(), nullptr);
  return negative ? -d : d;
}

std::string digits_of(uint64_t magnitude, unsigned base, bool upper) {
  std::string out;
  do {
    const auto digit = static_cast<unsigned>(magnitude % base);
    out.insert(out.begin(), static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10));
    magnitude /= base;
  } while (magnitude);
  return out;
}

std::string float_digits(double magnitude, char type, int precision, bool alternative) {
  if (!std::isfinite(magnitude)) return std::isnan(magnitude) ? "nan" : "inf";
  const char format[] = {'%',
                         alternative ? '#' : '.',
                         alternative ? '.' : '*',
                         alternative ? '*' : type,
                         alternative ? type : '\0',
                         '\0'};
  const int length = std::snprintf(nullptr, 0, format, precision, magnitude);
  std::string out(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, precision, magnitude);
  out.pop_back();
  return out;
}

}  // namespace linnet::text::jinja
