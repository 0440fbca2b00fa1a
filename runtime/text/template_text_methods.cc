// Python's str methods.
#include <algorithm>
#include <map>
#include <set>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/template_text.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

constexpr const char* kMethods[] = {
    "capitalize", "casefold",     "center",       "count",   "encode",     "endswith",    "expandtabs",
    "find",       "format",       "format_map",   "index",   "isalnum",    "isalpha",     "isascii",
    "isdecimal",  "isdigit",      "isidentifier", "islower", "isnumeric",  "isprintable", "isspace",
    "istitle",    "isupper",      "join",         "ljust",   "lower",      "lstrip",      "maketrans",
    "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",      "rjust",
    "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith",  "strip",
    "swapcase",   "title",        "translate",    "upper",   "zfill"};

const Value& text_argument(const Value& v) {
  if (!v.text()) fail_with(strf("a {} stands where a text is expected", type_name(v)));
  return v;
}

// Start and end of a search, in bytes; nothing where there is no such stretch.
struct Stretch {
  size_t begin, end;
  int64_t first;  // code point of begin
  bool empty_range;
};
Stretch stretch(const std::string& s, const Value* first, const Value* last) {
  const int64_t n = code_points(s);
  const auto clamp = [&](const Value* v, int64_t absent) {
    if (!v || v->none()) return absent;
    int64_t i = whole(*v);
    if (i < 0) i = std::max<int64_t>(i + n, 0);
    return i;
  };
  const int64_t begin = clamp(first, 0), end = std::min(clamp(last, n), n);
  if (begin > end) return {0, 0, 0, true};
  return {byte_of(s, begin), byte_of(s, end), begin, false};
}

Value counted(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"sub", "start", "end"};
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  const Bound bound = bind_arguments(name.c_str(), args, kNames, 1);
  const std::string &s = object.bytes(), &part = text_argument(*bound[0]).bytes();
  e.step(static_cast<int64_t>((s.size() / 256 + 1) * (part.size() / 64 + 1)));
  const Stretch in = stretch(s, bound[1], bound[2]);
  const std::string_view within = std::string_view(s).substr(in.begin, in.end - in.begin);
  if (name == "count") {
    if (in.empty_range) return Value(int64_t{0});
    if (part.empty()) return Value(code_points(within) + 1);
    int64_t n = 0;
    for (size_t at = within.find(part); at != within.npos; at = within.find(part, at + part.size())) ++n;
    return Value(n);
  }
  const size_t found = in.empty_range          ? within.npos
                       : name.starts_with('r') ? within.rfind(part)
                                               : within.find(part);
  if (found == within.npos) {
    if (name.ends_with("index")) fail_with("a part of a text is not found");
    return Value(int64_t{-1});
  }
  return Value(in.first + code_points(within.substr(0, found)));
}

bool starts_or_ends(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"prefix", "start", "end"};
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  const Bound bound = bind_arguments(name.c_str(), args, kNames, 1);
  if (bound[1] || bound[2]) e.step_bytes(object.bytes().size());
  const Stretch in = bound[1] || bound[2] ? stretch(object.bytes(), bound[1], bound[2])
                                          : Stretch{0, object.bytes().size(), 0, false};
  const std::string_view within = std::string_view(object.bytes()).substr(in.begin, in.end - in.begin);
  const auto one = [&](const Value& part) {
    const std::string& p = text_argument(part).bytes();
    e.step_bytes(p.size());
    return !in.empty_range && (name == "startswith" ? within.starts_with(p) : within.ends_with(p));
  };
  if (bound[0]->tuple()) {
    for (const Value& part : bound[0]->items())
      if (one(part)) return true;
    return false;
  }
  return one(*bound[0]);
}

// All characters are of a kind, and there is one.
template <typename F>
Value all_are(Evaluator& e, const std::string& s, const F& kind, bool of_nothing = false) {
  e.step_bytes(s.size() * 8);
  for (size_t at = 0; at < s.size();)
    if (!kind(next_char(s, at))) return Value(false);
  return Value(!s.empty() || of_nothing);
}

bool is_titled(const std::string& s) {
  bool cased = false, within_word = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_char(s, at);
    if (is_upper(c) || is_title(c)) {
      if (within_word) return false;
      within_word = cased = true;
    } else if (is_lower(c)) {
      if (!within_word) return false;
      cased = true;
    } else {
      within_word = false;
    }
  }
  return cased;
}

Value kind_of(Evaluator& e, const std::string& name, const std::string& s) {
  const auto alnum = [](char32_t c) { return is_alpha(c) || is_decimal(c) || is_digit(c) || is_numeric(c); };
  if (name == "isalpha") return all_are(e, s, is_alpha);
  if (name == "isalnum") return all_are(e, s, alnum);
  if (name == "isdecimal") return all_are(e, s, is_decimal);
  if (name == "isdigit") return all_are(e, s, is_digit);
  if (name == "isnumeric") return all_are(e, s, is_numeric);
  if (name == "isspace") return all_are(e, s, is_python_space);
  if (name == "isprintable") return all_are(e, s, is_printable, true);
  if (name == "isascii")
    return all_are(
        e, s, [](char32_t c) { return c < 0x80; }, true);
  if (name == "istitle") {
    e.step_bytes(s.size() * 8);
    return Value(is_titled(s));
  }
  if (name == "islower" || name == "isupper") return Value(is_cased_as(e, s, name == "isupper"));
  bool first = true;  // isidentifier
  return all_are(e, s, [&](char32_t c) {
    const bool begins = std::exchange(first, false);
    return c == '_' || is_alpha(c) || (!begins && is_word(c));
  });
}

Value filled(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"width", "fillchar"};
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  const Bound bound = bind_arguments(name.c_str(), args, kNames, 1);
  const int64_t width = whole(*bound[0]);
  Value fill = bound[1] ? text_argument(*bound[1]) : e.heap.text(" ");
  if (object.str().markup) fill = escaped(e, fill);
  if (code_points(fill.bytes()) != 1) fail_with("what fills a text must be one character");
  return justified(e, object, width, fill, name);
}

Value joined_by(Evaluator& e, const Value& object, const Arguments& args) {
  constexpr const char* kNames[] = {"iterable"};
  const Bound bound = bind_arguments("join", args, kNames, 1);
  const IteratorPtr it = e.iterate(*bound[0]);
  TextBuilder out;
  bool first = true;
  while (auto v = it->next(e)) {
    if (!object.str().markup && !v->text())
      fail_with(strf("join: a {} stands where a text is expected", type_name(*v)));
    if (!std::exchange(first, false)) e.write(out, object);
    e.write(out, object.str().markup ? escaped(e, *v) : *v);
  }
  return out.value(e.heap, object.str().markup);
}

Value tabs_expanded(Evaluator& e, const Value& object, const Arguments& args) {
  constexpr const char* kNames[] = {"tabsize"};
  const Bound bound = bind_arguments("expandtabs", args, kNames, 0);
  const int64_t size = bound[0] ? whole(*bound[0]) : 8;
  const Text& t = object.str();
  e.step_bytes(t.bytes.size());
  TextBuilder out;
  int64_t column = 0;
  for (size_t at = 0; at < t.bytes.size();) {
    const size_t begin = at;
    const char32_t c = next_char(t.bytes, at);
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      if (spaces > static_cast<int64_t>(kMostText)) out_of_bound("it makes a text of more than 64 MiB");
      e.step_bytes(static_cast<size_t>(spaces));
      out.add(std::string(static_cast<size_t>(spaces), ' '));
      column += spaces;
      continue;
    }
    column = c == '\n' || c == '\r' ? 0 : column + 1;
    out.add(t, begin, at);
  }
  return out.value(e.heap, t.markup);
}

Value parted(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"sep"};
  if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
  const Value& by = text_argument(*bind_arguments(name.c_str(), args, kNames, 1)[0]);
  if (by.bytes().empty()) fail_with("an empty separator");
  const Text& t = object.str();
  e.step(static_cast<int64_t>((t.bytes.size() / 256 + 1) * (by.bytes().size() / 64 + 1)));
  const size_t at = name == "partition" ? t.bytes.find(by.bytes()) : t.bytes.rfind(by.bytes());
  const auto part = [&](size_t begin, size_t end) {
    TextBuilder out;
    out.add(t, begin, end);
    return out.value(e.heap, t.markup);
  };
  const size_t n = t.bytes.size();
  if (at == t.bytes.npos) {
    if (name == "partition") return e.heap.tuple({part(0, n), part(0, 0), part(0, 0)});
    return e.heap.tuple({part(0, 0), part(0, 0), part(0, n)});
  }
  const size_t behind = at + by.bytes().size();
  return e.heap.tuple({part(0, at), part(at, behind), part(behind, n)});
}

Value zero_filled(Evaluator& e, const Value& object, const Arguments& args) {
  constexpr const char* kNames[] = {"width"};
  const int64_t width = whole(*bind_arguments("zfill", args, kNames, 1)[0]);
  const Text& t = object.str();
  const int64_t missing = width - code_points(t.bytes);
  if (missing <= 0) return object;
  if (missing > static_cast<int64_t>(kMostText)) out_of_bound("it makes a text of more than 64 MiB");
  e.step_bytes(static_cast<size_t>(missing) + t.bytes.size());
  const size_t sign = t.bytes.starts_with('+') || t.bytes.starts_with('-') ? 1 : 0;
  TextBuilder out;
  out.add(t, 0, sign);
  out.add(std::string(static_cast<size_t>(missing), '0'));
  out.add(t, sign, t.bytes.size());
  return out.value(e.heap, t.markup);
}

Value without_affix(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"affix"};
  const std::string& affix = text_argument(*bind_arguments(name.c_str(), args, kNames, 1)[0]).bytes();
  const Text& t = object.str();
  e.step_bytes(t.bytes.size());
  size_t begin = 0, end = t.bytes.size();
  if (name == "removeprefix" && t.bytes.starts_with(affix)) begin = affix.size();
  if (name == "removesuffix" && !affix.empty() && t.bytes.ends_with(affix)) end -= affix.size();
  TextBuilder out;
  out.add(t, begin, end);
  return out.value(e.heap, t.markup);
}

Value split_by(Evaluator& e, const Value& object, const std::string& name, const Arguments& args) {
  constexpr const char* kNames[] = {"sep", "maxsplit"};
  const Bound bound = bind_arguments(name.c_str(), args, kNames, 0);
  const Value* by = bound[0] && !bound[0]->none() ? &text_argument(*bound[0]) : nullptr;
  return split(e, object, by, bound[1] ? whole(*bound[1]) : -1, name == "rsplit");
}

}  // namespace

bool is_text_method(std::string_view name) { return std::ranges::find(kMethods, name) != std::end(kMethods); }

Value Evaluator::text_method(const Value& object, const std::string& name, Arguments& args) {
  const Text& t = object.str();
  const auto no_arguments = [&] { bind_arguments(name.c_str(), args, {}, 0); };
  if (name == "lower" || name == "upper" || name == "title" || name == "capitalize" || name == "casefold" ||
      name == "swapcase") {
    no_arguments();
    return cased(*this, object, name);
  }
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    constexpr const char* kNames[] = {"chars"};
    if (!args.named.empty()) fail_with(strf("{} takes no named arguments", name));
    const Bound bound = bind_arguments(name.c_str(), args, kNames, 0);
    const Value* chars = bound[0] && !bound[0]->none() ? &text_argument(*bound[0]) : nullptr;
    return stripped(*this, object, chars, name != "rstrip", name != "lstrip");
  }
  if (name == "split" || name == "rsplit") return split_by(*this, object, name, args);
  if (name == "replace") {
    constexpr const char* kNames[] = {"old", "new", "count"};
    const Bound bound = bind_arguments("replace", args, kNames, 2);
    const Value to = t.markup ? escaped(*this, text_argument(*bound[1])) : text_argument(*bound[1]);
    return replaced(*this, object, text_argument(*bound[0]).str(), to.str(),
                    bound[2] ? whole(*bound[2]) : -1);
  }
  if (name == "startswith" || name == "endswith") return Value(starts_or_ends(*this, object, name, args));
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex" || name == "count")
    return counted(*this, object, name, args);
  if (name == "splitlines") {
    constexpr const char* kNames[] = {"keepends"};
    const Bound bound = bind_arguments("splitlines", args, kNames, 0);
    return heap.list(
        lines_of(*this, object,
                 bound[0] && (bound[0]->integral() ? bound[0]->integer() != 0 : whole(*bound[0]) != 0)));
  }
  if (name == "join") return joined_by(*this, object, args);
  if (name == "format") return format(object, args);
  if (name == "format_map") {
    constexpr const char* kNames[] = {"mapping"};
    if (!args.named.empty()) fail_with("format_map takes no named arguments");
    const Value* map = bind_arguments("format_map", args, kNames, 1)[0];
    if (!map->dict()) fail_with("format_map needs a dict");
    Arguments named;
    for (const auto& [key, value] : map->map().entries)
      if (key.text()) named.named.emplace_back(key.bytes(), value);
    return format(object, named);
  }
  if (name == "partition" || name == "rpartition") return parted(*this, object, name, args);
  if (name == "center" || name == "ljust" || name == "rjust") return filled(*this, object, name, args);
  if (name == "zfill") return zero_filled(*this, object, args);
  if (name == "expandtabs") return tabs_expanded(*this, object, args);
  if (name == "removeprefix" || name == "removesuffix") return without_affix(*this, object, name, args);
  if (name.starts_with("is")) {
    no_arguments();
    return kind_of(*this, name, t.bytes);
  }
  unsupported(strf("the method '{}' of a text", name));
}

}  // namespace linnet::text::jinja
