// "%d of %s" % (1, 'x') and "{:>8}".format('x').
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/utf8.h"

namespace linnet::text::jinja {
namespace {

constexpr int64_t kMostWidth = 1 << 20;

// What stands before the digits of a number, and they.
struct Number {
  std::string sign, prefix, digits;
};

void put(Evaluator& e, TextBuilder& to, const Text& body, int64_t width, char align,
         const std::string& fill) {
  const int64_t missing = width - code_points(body.bytes);
  e.step_bytes(body.bytes.size() + static_cast<size_t>(std::max<int64_t>(missing, 0)));
  const int64_t before = missing <= 0 ? 0 : align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  for (int64_t i = 0; i < before; ++i) to.add(fill);
  to.add(body);
  for (int64_t i = before; i < missing; ++i) to.add(fill);
}

uint64_t magnitude_of(int64_t i) { return i < 0 ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i); }

// ---- % ----
class Percent {
 public:
  Percent(Evaluator& e, const Value& pattern, const Value& values)
      : e_(e), pattern_(pattern.str()), values_(values) {
    markup_ = pattern_.markup;
    // Every type with items is a mapping to Python here; only of dicts names are asked.
    const bool mapping = values.dict() || values.list() || values.undefined() ||
                         (values.object() && values.obj().kind == Object::kRange);
    if (values.tuple())
      items_ = values.items();
    else
      items_ = {values};
    all_needed_ = values.tuple() || !mapping;
  }

  Value run() {
    const std::string& s = pattern_.bytes;
    e_.step_bytes(s.size());
    for (size_t at = 0; at < s.size();) {
      const size_t percent = std::min(s.find('%', at), s.size());
      out_.add(pattern_, at, percent);
      at = percent;
      if (at < s.size()) conversion(at);
    }
    if (all_needed_ && next_ < items_.size() && !named_) fail_with("not all values are used by the format");
    return out_.value(e_.heap, markup_);
  }

 private:
  Value next() {
    if (next_ >= items_.size()) fail_with("a format has too few values");
    return items_[next_++];
  }
  char at(size_t i) const {
    if (i >= pattern_.bytes.size()) fail_with("a format ends within '%'");
    return pattern_.bytes[i];
  }
  int64_t number(size_t& i, bool& left) {
    if (at(i) == '*') {
      ++i;
      const Value v = next();
      const int64_t n = whole(v);
      left = left || n < 0;
      if (std::abs(n) > kMostWidth) out_of_bound("a width of more than 1048576");
      return std::abs(n);
    }
    int64_t n = 0;
    for (; at(i) >= '0' && at(i) <= '9'; ++i) {
      n = n * 10 + (at(i) - '0');
      if (n > kMostWidth) out_of_bound("a width of more than 1048576");
    }
    return n;
  }

  void conversion(size_t& i) {
    ++i;
    std::optional<Value> value;
    if (at(i) == '(') {
      if (!values_.dict()) fail_with("a format with names needs a dict");
      const size_t begin = i + 1;
      int open = 1;
      for (++i; open > 0; ++i) open += at(i) == '(' ? 1 : at(i) == ')' ? -1 : 0;
      const Value* found = values_.map().find(std::string_view(pattern_.bytes).substr(begin, i - 1 - begin));
      if (!found)
        fail_with(
            strf("a format asks for '{}', which is not there", pattern_.bytes.substr(begin, i - 1 - begin)));
      value = *found;
      named_ = true;
    }
    bool left = false, plus = false, space = false, alternative = false, zero = false;
    for (;; ++i) {
      const char c = at(i);
      if (c == '-')
        left = true;
      else if (c == '+')
        plus = true;
      else if (c == ' ')
        space = true;
      else if (c == '#')
        alternative = true;
      else if (c == '0')
        zero = true;
      else
        break;
    }
    const int64_t width = number(i, left);
    int64_t precision = -1;
    if (at(i) == '.') {
      bool negative = false;
      precision = number(++i, negative);
      if (negative) precision = 0;
    }
    if (at(i) == 'h' || at(i) == 'l' || at(i) == 'L') ++i;
    const char type = at(i++);
    if (type == '%') return out_.add("%");
    const Value v = value ? *value : next();
    if (type == 's' || type == 'r' || type == 'a' || type == 'c')
      return text(v, type, width, precision, left);
    Number n = digits(v, type, precision, alternative);
    if (n.sign.empty() && plus) n.sign = "+";
    if (n.sign.empty() && space) n.sign = " ";
    std::string body = n.digits;
    const auto length = static_cast<int64_t>(n.sign.size() + n.prefix.size() + body.size());
    if (zero && !left && length < width)
      body.insert(0, std::string(static_cast<size_t>(width - length), '0'));
    Text whole_text;
    whole_text.bytes = n.sign + n.prefix + body;
    put(e_, out_, whole_text, width, left ? '<' : '>', " ");
  }

  void text(const Value& v, char type, int64_t width, int64_t precision, bool left) {
    TextBuilder b;
    if (type == 'c') {
      if (v.text() && code_points(v.bytes()) == 1) {
        b.add(v.str());
      } else {
        const int64_t c = v.text() || v.real() ? -1 : whole(v);
        if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
          fail_with("%c needs a character or its number");
        std::string one;
        append_utf8(one, static_cast<char32_t>(c));
        b.add(one);
      }
      precision = -1;
    } else if (type == 's') {
      e_.write(b, markup_ ? escaped(e_, v) : v);
    } else {
      TextBuilder plain;
      type == 'r' ? e_.write_repr(plain, v) : e_.write_ascii(plain, v);
      e_.write(b, markup_ ? escaped(e_, plain.value(e_.heap)) : plain.value(e_.heap));
    }
    Value made = b.value(e_.heap);
    if (precision >= 0) made = e_.heap.slice(made.str(), 0, byte_of(made.bytes(), precision));
    put(e_, out_, made.str(), width, left ? '<' : '>', " ");
  }

  Number digits(const Value& v, char type, int64_t precision, bool alternative) {
    Number n;
    if (std::string_view("diuoxX").find(type) != std::string_view::npos) {
      if (!v.number() || (v.real() && type != 'd' && type != 'i' && type != 'u'))
        fail_with(strf("%{} needs an integer", type));
      const int64_t i = v.real() ? truncated(v.as_real()) : v.integer();
      n.sign = i < 0 ? "-" : "";
      const unsigned base = type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
      n.digits = digits_of(magnitude_of(i), base, type == 'X');
      if (alternative && base != 10) n.prefix = type == 'o' ? "0o" : type == 'x' ? "0x" : "0X";
      if (static_cast<int64_t>(n.digits.size()) < precision)
        n.digits.insert(0, std::string(static_cast<size_t>(precision) - n.digits.size(), '0'));
      return n;
    }
    if (std::string_view("eEfFgG").find(type) == std::string_view::npos)
      fail_with(strf("a format has no type '{}'", type));
    if (!v.number()) fail_with(strf("%{} needs a number", type));
    const double d = v.as_real();
    n.sign = std::signbit(d) && !std::isnan(d) ? "-" : "";
    if (precision > 400) unsupported("a precision of more than 400 digits");
    n.digits = float_digits(std::fabs(d), type, precision < 0 ? 6 : static_cast<int>(precision), alternative);
    if (type < 'a')
      std::ranges::transform(n.digits, n.digits.begin(),
                             [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    return n;
  }

  Evaluator& e_;
  const Text& pattern_;
  const Value& values_;
  List items_;
  bool all_needed_ = false, named_ = false, markup_ = false;
  size_t next_ = 0;
  TextBuilder out_;
};

// ---- str.format ----
struct Spec {
  std::string fill = " ";
  char align = 0, sign = '-', type = 0, group = 0;
  bool alternative = false, zero = false, no_negative_zero = false;
  int64_t width = -1, precision = -1;
};

Spec parse_spec(const std::string& s) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < s.size() && std::string_view("<>=^").find(s[i]) != std::string_view::npos;
  };
  if (!s.empty() && is_align(utf8_length(s[0]))) {
    spec.fill = s.substr(0, utf8_length(s[0]));
    at = spec.fill.size();
    spec.align = s[at++];
  } else if (is_align(0)) {
    spec.align = s[at++];
  }
  const auto accept = [&](char c) { return at < s.size() && s[at] == c && (++at, true); };
  if (at < s.size() && std::string_view("+- ").find(s[at]) != std::string_view::npos) spec.sign = s[at++];
  spec.no_negative_zero = accept('z');
  spec.alternative = accept('#');
  if (accept('0')) {
    spec.zero = true;
    if (!spec.align) spec.align = '=', spec.fill = "0";
  }
  const auto number = [&]() -> int64_t {
    int64_t n = -1;
    for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at) {
      n = std::max<int64_t>(n, 0) * 10 + (s[at] - '0');
      if (n > kMostWidth) out_of_bound("a width of more than 1048576");
    }
    return n;
  };
  spec.width = number();
  if (accept(',')) spec.group = ',';
  if (accept('_')) {
    if (spec.group) fail_with("a format groups digits by ',' and by '_'");
    spec.group = '_';
    if (at < s.size() && s[at] == ',') fail_with("a format groups digits by ',' and by '_'");
  }
  if (accept('.')) {
    spec.precision = number();
    if (spec.precision < 0) fail_with("a format has no digits behind its '.'");
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) fail_with(strf("the format '{}' cannot be read", s));
  return spec;
}

class Format {
 public:
  Format(Evaluator& e, const Value& pattern, const Arguments& args)
      : e_(e), args_(args), markup_(pattern.str().markup) {}

  void run(TextBuilder& out, const Text& pattern, int levels) {
    e_.stack.check();
    if (levels == 0) fail_with("a format is nested too deeply");
    const std::string& s = pattern.bytes;
    e_.step_bytes(s.size());
    for (size_t at = 0; at < s.size();) {
      const size_t brace = std::min(s.find_first_of("{}", at), s.size());
      out.add(pattern, at, brace);
      if (brace == s.size()) return;
      at = brace + 1;
      if (at < s.size() && s[at] == s[brace]) {
        out.add(s.substr(at++, 1));
        continue;
      }
      if (s[brace] == '}') fail_with("a format has a single '}'");
      const size_t end = field_end(s, at);
      field(out, s.substr(at, end - at), levels);
      at = end + 1;
    }
  }

 private:
  static size_t field_end(const std::string& s, size_t at) {
    int open = 1;
    bool bracket = false;
    for (; at < s.size(); ++at) {
      if (s[at] == '[') bracket = true;
      if (s[at] == ']') bracket = false;
      if (bracket) continue;
      open += s[at] == '{' ? 1 : s[at] == '}' ? -1 : 0;
      if (open == 0) return at;
    }
    fail_with("a format has a '{' without '}'");
  }

  void field(TextBuilder& out, const std::string& whole_field, int levels) {
    size_t end = 0;
    bool bracket = false;
    for (; end < whole_field.size(); ++end) {
      const char c = whole_field[end];
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (!bracket && (c == '!' || c == ':')) break;
      if (!bracket && (c == '{' || c == '}')) fail_with("a format has a '{' in a name");
    }
    const std::string name = whole_field.substr(0, end);
    char conversion = 0;
    if (end < whole_field.size() && whole_field[end] == '!') {
      if (end + 1 >= whole_field.size() || (end + 2 < whole_field.size() && whole_field[end + 2] != ':'))
        fail_with("a conversion of a format cannot be read");
      conversion = whole_field[end + 1];
      end += 2;
    }
    std::string spec_text;
    if (end < whole_field.size() && whole_field[end] == ':') spec_text = whole_field.substr(end + 1);
    Value v = value_of(name);
    if (conversion == 'r' || conversion == 'a' || conversion == 's') {
      TextBuilder b;
      conversion == 'r' ? e_.write_repr(b, v) : conversion == 'a' ? e_.write_ascii(b, v) : e_.write(b, v);
      v = b.value(e_.heap);
    } else if (conversion) {
      fail_with(strf("a format has no conversion '{}'", conversion));
    }
    TextBuilder spec;
    Text pattern;
    pattern.bytes = std::move(spec_text);
    if (!pattern.bytes.empty()) run(spec, pattern, levels - 1);
    formatted(out, v, spec.bytes());
  }

  Value value_of(const std::string& name) {
    const size_t first_end = std::min(name.find_first_of(".["), name.size());
    const std::string first = name.substr(0, first_end);
    const auto is_number = [](const std::string& text) {
      return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
    };
    // Only a field without any name counts up, and only one that is nothing but a number says that it does
    // not.
    if (name.empty() && numbered_) fail_with("a format mixes fields with and without numbers");
    if (is_number(name) && next_ > 0) fail_with("a format mixes fields with and without numbers");
    numbered_ = numbered_ || is_number(name);
    Value v;
    if (name.empty() || is_number(first)) {
      const auto i = name.empty() ? next_++ : static_cast<size_t>(parse_int(first, 10).value_or(0));
      if (i >= args_.items.size()) fail_with("a format has too few values");
      v = args_.items[i];
    } else {
      const auto it = std::ranges::find(args_.named, first, &std::pair<std::string, Value>::first);
      if (it == args_.named.end()) fail_with(strf("a format asks for '{}', which is not there", first));
      v = it->second;
    }
    for (size_t at = first_end; at < name.size();) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        if (end == at + 1) fail_with("a format has an empty attribute");
        v = e_.attribute(v, name.substr(at + 1, end - at - 1));
        at = end;
      } else {
        const size_t end = name.find(']', at);
        if (name[at] != '[' || end == name.npos || end == at + 1)
          fail_with("an index of a format cannot be read");
        const std::string key = name.substr(at + 1, end - at - 1);
        const bool number = std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
        v = e_.item(v, number ? Value(parse_int(key, 10).value_or(0)) : e_.heap.text(key));
        at = end + 1;
      }
    }
    return v;
  }

  void formatted(TextBuilder& out, const Value& v, const std::string& spec_text) {
    if (spec_text.empty() || (!v.text() && !v.number())) {
      if (!spec_text.empty()) fail_with(strf("a {} has no format '{}'", type_name(v), spec_text));
      return e_.write(out, markup_ ? escaped(e_, v) : v);
    }
    Spec spec = parse_spec(spec_text);
    if (v.text()) return text(out, markup_ ? escaped(e_, v) : v, spec);
    Number n = spec.type == 0 || std::string_view("bcdoxXn").find(spec.type) != std::string_view::npos
                   ? integer(v, spec)
                   : real(v, spec);
    number(out, std::move(n), spec);
  }

  void text(TextBuilder& out, Value v, Spec& spec) {
    if (spec.type && spec.type != 's') fail_with(strf("a text has no format of type '{}'", spec.type));
    if (spec.sign != '-' || spec.alternative || spec.group || spec.no_negative_zero)
      fail_with("a text has no format with a sign, '#' or groups");
    if (spec.align == '=') {
      if (!spec.zero) fail_with("a text has no format with '='");
      spec.align = '<';
    }
    if (spec.precision >= 0) v = e_.heap.slice(v.str(), 0, byte_of(v.bytes(), spec.precision));
    put(e_, out, v.str(), spec.width, spec.align ? spec.align : '<', spec.fill);
  }

  Number integer(const Value& v, const Spec& spec) {
    if (v.real())
      return spec.type == 0 || spec.type == 'n'
                 ? real(v, spec)
                 : (fail_with(strf("a float has no format of type '{}'", spec.type)), Number{});
    if (v.boolean() && spec.type == 0 && false) return {};
    if (spec.precision >= 0) fail_with("an integer has no format with a precision");
    if (spec.type == 'c') {
      const int64_t c = v.integer();
      if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        fail_with("'c' needs the number of a character");
      Number n;
      append_utf8(n.digits, static_cast<char32_t>(c));
      return n;
    }
    const unsigned base = spec.type == 'b'                       ? 2
                          : spec.type == 'o'                     ? 8
                          : spec.type == 'x' || spec.type == 'X' ? 16
                                                                 : 10;
    Number n;
    n.sign = v.integer() < 0 ? "-" : "";
    n.digits = digits_of(magnitude_of(v.integer()), base, spec.type == 'X');
    if (spec.alternative && base != 10) n.prefix = strf("0{}", spec.type);
    if (spec.group == ',' && base != 10) fail_with("',' groups only decimal digits");
    return n;
  }

  Number real(const Value& v, const Spec& spec) {
    double d = v.as_real();
    if (spec.precision > 400) unsupported("a precision of more than 400 digits");
    char type = spec.type == 'n' ? 'g' : spec.type;
    if (type && std::string_view("eEfFgG%").find(type) == std::string_view::npos)
      fail_with(strf("a number has no format of type '{}'", type));
    if (type == '%') d *= 100;
    Number n;
    n.sign = std::signbit(d) && !std::isnan(d) ? "-" : "";
    const double magnitude = std::fabs(d);
    const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
    if (type == 0 && spec.precision < 0) {
      n.digits = float_text(magnitude);
      if (spec.alternative && n.digits.find('.') == n.digits.npos && std::isfinite(d))
        unsupported("'#' of a float without a type");
    } else if (type == 0) {
      n.digits = float_digits(magnitude, 'g', std::max(precision, 1), spec.alternative);
      // Like 'g', but a number without an exponent has a digit behind its point, and one fewer before it.
      const int digits = std::max(precision, 1);
      if (std::isfinite(d) && n.digits.find('e') == n.digits.npos && n.digits.find('.') == n.digits.npos) {
        if (static_cast<int>(n.digits.size()) >= digits && magnitude != 0)
          n.digits = float_digits(magnitude, 'e', digits - 1, spec.alternative);
        else
          n.digits += ".0";
        if (const size_t e = n.digits.find('e');
            e != n.digits.npos && n.digits.find('.') < e && !spec.alternative) {
          size_t last = e;
          while (n.digits[last - 1] == '0') --last;
          if (n.digits[last - 1] == '.') --last;
          n.digits.erase(last, e - last);
        }
      }
    } else {
      n.digits = float_digits(magnitude, type == '%' ? 'f' : type, precision, spec.alternative);
      if (type >= 'A' && type <= 'Z')
        std::ranges::transform(n.digits, n.digits.begin(),
                               [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
      if (type == '%') n.digits += '%';
    }
    if (spec.no_negative_zero && n.digits.find_first_of("123456789") == n.digits.npos && std::isfinite(d))
      n.sign.clear();
    return n;
  }

  static std::string grouped(const std::string& digits, char group, size_t every) {
    size_t whole_digits = 0;
    while (whole_digits < digits.size() &&
           std::isxdigit(static_cast<unsigned char>(digits[whole_digits])) != 0 &&
           !(every == 3 && (digits[whole_digits] | 0x20) == 'e'))
      ++whole_digits;
    std::string out;
    for (size_t i = 0; i < whole_digits; ++i) {
      if (i && (whole_digits - i) % every == 0) out += group;
      out += digits[i];
    }
    return out + digits.substr(whole_digits);
  }

  void number(TextBuilder& out, Number n, const Spec& spec) {
    if (n.sign.empty() && spec.sign != '-') n.sign = std::string(1, spec.sign);
    const size_t every = spec.type == 'b' || spec.type == 'o' || spec.type == 'x' || spec.type == 'X' ? 4 : 3;
    const char align = spec.align ? spec.align : '>';
    const auto length = [&] {
      return static_cast<int64_t>(n.sign.size() + n.prefix.size()) + code_points(n.digits);
    };
    if (spec.group) {
      if (align == '=' && spec.fill == "0")  // zeros are grouped as well
        while (static_cast<int64_t>(n.sign.size() + n.prefix.size() +
                                    grouped(n.digits, spec.group, every).size()) < spec.width)
          n.digits.insert(0, "0");
      n.digits = grouped(n.digits, spec.group, every);
    }
    if (align == '=') {
      std::string filled;
      for (int64_t i = length(); i < spec.width; ++i) filled += spec.fill;
      e_.step_bytes(filled.size());
      return out.add(n.sign + n.prefix + filled + n.digits);
    }
    Text whole_text;
    whole_text.bytes = n.sign + n.prefix + n.digits;
    put(e_, out, whole_text, spec.width, align, spec.fill);
  }

  Evaluator& e_;
  const Arguments& args_;
  bool markup_;
  bool numbered_ = false;  // a field was a number
  size_t next_ = 0;
};

}  // namespace

Value Evaluator::percent(const Value& pattern, const Value& values) {
  return Percent(*this, pattern, values).run();
}

Value Evaluator::format(const Value& pattern, const Arguments& args) {
  TextBuilder out;
  Format(*this, pattern, args).run(out, pattern.str(), 2);
  return out.value(heap, pattern.str().markup);
}

}  // namespace linnet::text::jinja
