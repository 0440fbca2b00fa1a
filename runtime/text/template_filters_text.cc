// Filters of texts and numbers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "runtime/core/strings.h"
#include "runtime/text/template_filters.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/template_text.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {

Value escaped(Evaluator& e, const Value& v) {
  if (v.text() && v.str().markup) return v;
  const Value plain = e.text_of(v);
  const Text& t = plain.str();
  e.step_bytes(t.bytes.size() * 4);
  TextBuilder out;
  for (size_t at = 0; at < t.bytes.size();) {
    const size_t special = std::min(t.bytes.find_first_of("&<>'\"", at), t.bytes.size());
    out.add(t, at, special);
    at = special;
    if (at == t.bytes.size()) break;
    const char c = t.bytes[at++];
    e.step();
    out.add(c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : "&#39;");
  }
  return out.value(e.heap, true);
}

namespace {

Value marked(Evaluator& e, const Value& v, const Bound&) {
  const Value text = e.soft_text_of(v);
  TextBuilder out;
  out.add(text.str());
  return out.value(e.heap, true);
}
Value escape(Evaluator& e, const Value& v, const Bound&) { return escaped(e, v); }
Value force_escape(Evaluator& e, const Value& v, const Bound&) { return escaped(e, e.text_of(v)); }

template <int I>
Value change_case(Evaluator& e, const Value& v, const Bound&) {
  constexpr const char* kHow[] = {"lower", "upper", "capitalize"};
  return cased(e, e.soft_text_of(v), kHow[I]);
}

// Words begin behind white space, '-', '(', '{', '[' and '<'.
Value title(Evaluator& e, const Value& v, const Bound&) {
  const Value text = e.soft_text_of(v);
  const std::string& s = text.bytes();
  e.step_bytes(s.size() * 8);
  std::string out;
  const auto begins = [](char32_t c) {
    return is_python_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  for (size_t at = 0; at < s.size();) {
    size_t end = at;
    next_char(s, end);
    const size_t first = end;
    size_t scan = at;
    const bool separators = begins(next_char(s, scan));
    for (end = at; end < s.size();) {
      size_t next = end;
      if (begins(next_char(s, next)) != separators) break;
      end = next;
    }
    out += upper_case(std::string_view(s).substr(at, first - at)) +
           lower_case(std::string_view(s).substr(first, end - first));
    at = end;
  }
  TextBuilder made;
  made.add_made(out, !text.str().user.empty());
  return made.value(e.heap);
}

Value string(Evaluator& e, const Value& v, const Bound&) { return e.soft_text_of(v); }
Value trim(Evaluator& e, const Value& v, const Bound& args) {
  const Value* chars = args[0] && !args[0]->none() ? args[0] : nullptr;
  if (chars && !chars->text()) fail_with("trim needs a text of characters");
  return stripped(e, e.soft_text_of(v), chars, true, true);
}
Value center(Evaluator& e, const Value& v, const Bound& args) {
  return justified(e, e.soft_text_of(v), args[0] ? whole(*args[0]) : 80, e.heap.text(" "), "center");
}

Value replace(Evaluator& e, const Value& v, const Bound& args) {
  const Value text = e.text_of(v), from = e.text_of(*args[0]), to = e.text_of(*args[1]);
  return replaced(e, text, from.str(), to.str(), args[2] && !args[2]->none() ? whole(*args[2]) : -1);
}

Value indent(Evaluator& e, const Value& v, const Bound& args) {
  Value width = e.heap.text("    ");
  if (args[0])
    width = args[0]->text()
                ? *args[0]
                : e.heap.text(std::string(
                      static_cast<size_t>(std::clamp<int64_t>(whole(*args[0]), 0, 1 << 20)), ' '));
  const bool first = truth(args[1]), blank = truth(args[2]);
  if (!v.text()) fail_with(strf("indent needs a text, not a {}", type_name(v)));
  const bool markup = v.str().markup;
  const List lines = lines_of(e, e.joined(v, e.heap.text("\n", {}, markup)), false);
  TextBuilder out;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Value& line = lines[i];
    if (i) out.add("\n");
    const bool indented = i == 0 ? first : blank || !line.bytes().empty();
    e.step_bytes(line.bytes().size() + (indented ? width.bytes().size() : 0));
    if (indented) out.add(width.str());  // into markup too as it is: Jinja calls it markup
    out.add(line.str());
  }
  return out.value(e.heap, markup);
}

Value truncate(Evaluator& e, const Value& v, const Bound& args) {
  const int64_t most = args[0] ? whole(*args[0]) : 255,
                leeway = args[3] && !args[3]->none() ? whole(*args[3]) : 5;
  const Value end = args[2] ? *args[2] : e.heap.text("...");
  const int64_t end_length = e.length(end);
  if (most < end_length) fail_with(strf("truncate: a length of {} is less than that of its end", most));
  if (leeway < 0) fail_with("truncate: the leeway is negative");
  const int64_t n = e.length(v);
  if (n <= most + leeway) return v;
  if (!v.text()) fail_with(strf("truncate needs a text, not a {}", type_name(v)));
  Value kept = e.slice(v, Value(None{}), Value(most - end_length), Value(None{}));
  if (!truth(args[1])) {
    const Value space = e.heap.text(" ");
    kept = split(e, kept, &space, 1, true).items()[0];
  }
  return e.binary("+", kept, end);
}

Value word_count(Evaluator& e, const Value& v, const Bound&) {
  const Value text = e.soft_text_of(v);
  const std::string& s = text.bytes();
  e.step_bytes(s.size() * 8);
  int64_t n = 0;
  bool within = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_char(s, at);
    const bool word = c == '_' || is_alpha(c) || is_decimal(c) || is_digit(c) || is_numeric(c);
    n += word && !within ? 1 : 0;
    within = word;
  }
  return Value(n);
}

std::string quoted_for_url(Evaluator& e, const Value& v, bool query) {
  const Value text = e.text_of(v);
  e.step_bytes(text.bytes().size() * 8);
  std::string out;
  for (const char c : text.bytes()) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
    if (plain)
      out += c;
    else if (query && c == ' ')
      out += '+';
    else
      out += strf("%{}{}", digits_of(byte >> 4, 16, true), digits_of(byte & 15, 16, true));
  }
  return out;
}

Value url_encode(Evaluator& e, const Value& v, const Bound&) {
  TextBuilder made;
  Arguments none;
  if (v.text() || !e.test("iterable", v, none)) {
    made.add_made(quoted_for_url(e, v, false), v.text() && !v.str().user.empty());
    return made.value(e.heap);
  }
  const IteratorPtr it =
      v.dict() ? e.iterate(Value(ObjectPtr(e.heap.object(
                     std::make_shared<View>(std::get<DictPtr>(v.data), View::kItems), v.depth() + 1))))
               : e.iterate(v);
  bool first = true;
  while (auto pair = it->next(e)) {
    const List two = e.all_of(*pair);
    if (two.size() != 2) fail_with("urlencode: an item is no pair");
    if (!std::exchange(first, false)) made.add("&");
    for (size_t i = 0; i < 2; ++i) {
      if (i) made.add("=");
      made.add_made(quoted_for_url(e, two[i], true), two[i].text() && !two[i].str().user.empty());
    }
  }
  return made.value(e.heap);
}

Value xml_attributes(Evaluator& e, const Value& v, const Bound& args) {
  if (!v.dict()) fail_with("xmlattr needs a dict");
  TextBuilder out;
  for (const auto& [key, value] : v.map().entries) {
    if (value.none() || value.undefined()) continue;
    if (!key.text()) fail_with("xmlattr: a name is no text");
    if (key.bytes().find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      fail_with(strf("xmlattr: '{}' cannot be a name", key.bytes()));
    if (out.size() || !args[0] || truth(args[0])) out.add(" ");
    out.add(escaped(e, key).str());
    out.add("=\"");
    out.add(escaped(e, value).str());
    out.add("\"");
  }
  return out.value(e.heap);
}

// ---- numbers ----
Value absolute(Evaluator&, const Value& v, const Bound&) {
  if (!v.number()) fail_with(strf("abs needs a number, not a {}", type_name(v)));
  if (v.real()) return Value(std::fabs(v.as_real()));
  return v.integer() < 0 ? negated(Value(v.integer())) : Value(v.integer());
}

Value to_float(Evaluator&, const Value& v, const Bound& args) {
  const Value absent = args[0] ? *args[0] : Value(0.0);
  if (v.undefined()) fail_with("float of something undefined");
  if (v.number()) return Value(v.as_real());
  if (!v.text()) return absent;
  const auto d = parse_float(v.bytes());
  return d ? Value(*d) : absent;
}

Value to_int(Evaluator&, const Value& v, const Bound& args) {
  const Value absent = args[0] ? *args[0] : Value(int64_t{0});
  if (v.undefined()) fail_with("int of something undefined");
  if (v.integral()) return Value(v.integer());
  if (v.real()) {
    if (std::isinf(v.as_real())) fail_with("cannot convert float infinity to integer");
    return std::isnan(v.as_real()) ? absent : Value(truncated(v.as_real()));
  }
  if (!v.text()) return absent;
  if (args[1] && !args[1]->integral()) {
    // int() has no such base: the text is read as a float.
  } else if (const auto i = parse_int(v.bytes(), args[1] ? args[1]->integer() : 10)) {
    return Value(*i);
  }
  const auto d = parse_float(v.bytes());
  if (!d || !std::isfinite(*d)) return absent;
  return Value(truncated(*d));
}

Value round(Evaluator&, const Value& v, const Bound& args) {
  const Value digits = args[0] ? *args[0] : Value(int64_t{0});
  const std::string method = args[1] ? (args[1]->text() ? args[1]->bytes() : "?") : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail_with("round: the method is 'common', 'ceil' or 'floor'");
  if (!v.number()) fail_with(strf("round needs a number, not a {}", type_name(v)));
  if (method == "common") {
    if (digits.none()) return v.real() ? Value(truncated(rounded(v, 0).as_real())) : Value(v.integer());
    if (v.real() && (std::isnan(v.as_real()) || std::isinf(v.as_real()))) return v;
    return rounded(v, whole(digits));
  }
  if (!digits.number()) fail_with("round: the precision is a number");
  const Value unit = arithmetic("**", Value(int64_t{10}), digits);
  const Value scaled = arithmetic("*", v, unit);
  const Value whole_number =
      scaled.integral()
          ? scaled
          : Value(truncated(method == "ceil" ? std::ceil(scaled.as_real()) : std::floor(scaled.as_real())));
  return arithmetic("/", whole_number, unit);
}

Value file_size(Evaluator& e, const Value& v, const Bound& args) {
  if (v.undefined()) fail_with("filesizeformat of something undefined");
  const bool binary = truth(args[0]);
  const auto parsed = v.number() ? std::optional(v.as_real())
                      : v.text() ? parse_float(v.bytes())
                                 : std::nullopt;
  if (!parsed) fail_with("filesizeformat needs a number");
  const double bytes = *parsed, base = binary ? 1024 : 1000;
  if (bytes == 1) return e.heap.text("1 Byte");
  if (bytes < base) return e.heap.text(strf("{} Bytes", truncated(bytes)));
  if (std::isnan(bytes)) return e.heap.text(binary ? "nan YiB" : "nan YB");
  double unit = base;
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  for (size_t i = 0; i < kPrefixes.size(); ++i) {
    unit *= base;
    if (bytes >= unit && i + 1 < kPrefixes.size()) continue;
    const std::string digits = float_digits(base * bytes / unit, 'f', 1, false);
    const char prefix = binary && i == 0 ? 'K' : kPrefixes[i];
    return e.heap.text(strf("{} {}{}", digits, prefix, binary ? "iB" : "B"));
  }
  return {};
}

constexpr Filter kTextFilters[] = {
    {"abs", absolute, {}, 0, 0},
    {"capitalize", change_case<2>, {}, 0, 0},
    {"center", center, {"width"}, 1, 0},
    {"e", escape, {}, 0, 0},
    {"escape", escape, {}, 0, 0},
    {"filesizeformat", file_size, {"binary"}, 1, 0},
    {"float", to_float, {"default"}, 1, 0},
    {"forceescape", force_escape, {}, 0, 0},
    {"indent", indent, {"width", "first", "blank"}, 3, 0},
    {"int", to_int, {"default", "base"}, 2, 0},
    {"lower", change_case<0>, {}, 0, 0},
    {"replace", replace, {"old", "new", "count"}, 3, 2},
    {"round", round, {"precision", "method"}, 2, 0},
    {"safe", marked, {}, 0, 0},
    {"string", string, {}, 0, 0},
    {"title", title, {}, 0, 0},
    {"trim", trim, {"chars"}, 1, 0},
    {"truncate", truncate, {"length", "killwords", "end", "leeway"}, 4, 0},
    {"upper", change_case<1>, {}, 0, 0},
    {"urlencode", url_encode, {}, 0, 0},
    {"wordcount", word_count, {}, 0, 0},
    {"xmlattr", xml_attributes, {"autospace"}, 1, 0},
};

}  // namespace

const Filter* find_text_filter(std::string_view name) {
  const auto it = std::ranges::find_if(kTextFilters, [&](const Filter& f) { return name == f.name; });
  return it == std::end(kTextFilters) ? nullptr : &*it;
}

}  // namespace linnet::text::jinja
