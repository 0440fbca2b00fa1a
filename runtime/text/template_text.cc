#include "runtime/text/template_text.h"

#include <algorithm>
#include <set>

#include "runtime/core/strings.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

Value part(Evaluator& e, const Text& t, size_t begin, size_t end) {
  e.step();
  TextBuilder out;
  out.add(t, begin, end);
  return out.value(e.heap, t.markup);
}

}  // namespace

Value cased(Evaluator& e, const Value& text, const std::string& how) {
  const Text& t = text.str();
  e.step_bytes(t.bytes.size() * 8);
  const auto map = how == "lower"        ? lower_case
                   : how == "upper"      ? upper_case
                   : how == "title"      ? title_case
                   : how == "capitalize" ? capital_case
                   : how == "casefold"   ? fold_case
                                         : swap_case;
  TextBuilder out;
  out.add_made(map(t.bytes), !t.user.empty());
  return out.value(e.heap, t.markup);
}

Value stripped(Evaluator& e, const Value& text, const Value* characters, bool left, bool right) {
  const Text& t = text.str();
  std::set<char32_t> set;
  if (characters) {
    e.step_bytes(characters->bytes().size() * 32);
    for (size_t at = 0; at < characters->bytes().size();) set.insert(next_char(characters->bytes(), at));
  }
  const auto goes = [&](char32_t c) { return characters ? set.contains(c) : is_python_space(c); };
  size_t begin = 0, end = t.bytes.size();
  while (left && begin < end) {
    size_t next = begin;
    if (!goes(next_char(t.bytes, next))) break;
    begin = next;
  }
  while (right && end > begin) {
    size_t before = end;
    if (!goes(previous_char(t.bytes, before))) break;
    end = before;
  }
  e.step_bytes(t.bytes.size() + (begin + t.bytes.size() - end) * 8);
  if (begin == 0 && end == t.bytes.size()) return text;
  return part(e, t, begin, end);
}

Value replaced(Evaluator& e, const Value& text, const Text& from, const Text& to, int64_t most) {
  const Text& t = text.str();
  e.step(static_cast<int64_t>((t.bytes.size() / 256 + 1) * (from.bytes.size() / 64 + 1)));
  TextBuilder out;
  size_t at = 0;
  if (from.bytes.empty()) {  // between all characters
    while (most != 0) {
      e.step();
      out.add(to);
      --most;
      if (at >= t.bytes.size()) break;
      size_t next = at;
      next_char(t.bytes, next);
      out.add(t, at, next);
      at = next;
    }
    out.add(t, at, t.bytes.size());
    return out.value(e.heap, t.markup);
  }
  while (most-- != 0) {
    const size_t found = t.bytes.find(from.bytes, at);
    if (found == t.bytes.npos) break;
    e.step(1 + static_cast<int64_t>((to.bytes.size() + found - at) / 256));
    out.add(t, at, found);
    out.add(to);
    at = found + from.bytes.size();
  }
  out.add(t, at, t.bytes.size());
  return out.value(e.heap, t.markup);
}

static List split_at_spaces(Evaluator& e, const Text& t, int64_t most, bool from_right) {
  const std::string& s = t.bytes;
  List parts;
  const auto space_at = [&](size_t at, size_t& next) {
    next = at;
    return is_python_space(next_char(s, next));
  };
  const auto space_before = [&](size_t at, size_t& before) {
    before = at;
    return is_python_space(previous_char(s, before));
  };
  size_t other;
  if (from_right) {
    size_t end = s.size();
    while (true) {
      while (end > 0 && space_before(end, other)) end = other;
      if (end == 0) break;
      size_t begin = end;
      if (most-- == 0) {
        parts.push_back(part(e, t, 0, end));
        break;
      }
      while (begin > 0 && !space_before(begin, other)) begin = other;
      parts.push_back(part(e, t, begin, end));
      end = begin;
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (true) {
    while (begin < s.size() && space_at(begin, other)) begin = other;
    if (begin == s.size()) return parts;
    size_t end = begin;
    if (most-- == 0) {
      parts.push_back(part(e, t, begin, s.size()));
      return parts;
    }
    while (end < s.size() && !space_at(end, other)) end = other;
    parts.push_back(part(e, t, begin, end));
    begin = end;
  }
}

Value split(Evaluator& e, const Value& text, const Value* by, int64_t most, bool from_right) {
  const Text& t = text.str();
  const std::string& s = t.bytes;
  e.step_bytes(s.size());
  if (!by) {
    e.step_bytes(s.size() * 4);
    return e.heap.list(split_at_spaces(e, t, most, from_right));
  }
  const std::string& separator = by->bytes();
  if (separator.empty()) fail_with("an empty separator");
  e.step(static_cast<int64_t>((s.size() / 256 + 1) * (separator.size() / 64 + 1)));
  List parts;
  if (from_right) {
    size_t end = s.size();
    while (most-- != 0 && end >= separator.size()) {
      const size_t found = s.rfind(separator, end - separator.size());
      if (found == s.npos) break;
      parts.push_back(part(e, t, found + separator.size(), end));
      end = found;
    }
    parts.push_back(part(e, t, 0, end));
    std::reverse(parts.begin(), parts.end());
    return e.heap.list(std::move(parts));
  }
  size_t at = 0;
  while (most-- != 0) {
    const size_t found = s.find(separator, at);
    if (found == s.npos) break;
    parts.push_back(part(e, t, at, found));
    at = found + separator.size();
  }
  parts.push_back(part(e, t, at, s.size()));
  return e.heap.list(std::move(parts));
}

List lines_of(Evaluator& e, const Value& text, bool keep_ends) {
  const Text& t = text.str();
  const std::string& s = t.bytes;
  e.step_bytes(s.size() * 2);
  List lines;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const size_t end = at;
    const char32_t c = next_char(s, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < s.size() && s[at] == '\n') ++at;
    lines.push_back(part(e, t, begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < s.size()) lines.push_back(part(e, t, begin, s.size()));
  return lines;
}

Value justified(Evaluator& e, const Value& text, int64_t width, const Value& fill, const std::string& how) {
  const Text& t = text.str();
  e.step_bytes(t.bytes.size());
  const int64_t n = code_points(t.bytes), missing = width - n;
  if (missing <= 0) return text;
  if (missing > static_cast<int64_t>(kMostText)) out_of_bound("it makes a text of more than 64 MiB");
  e.step(1 + missing / 16);
  const int64_t left = how == "ljust" ? 0 : how == "rjust" ? missing : missing / 2 + (missing & width & 1);
  TextBuilder out;
  for (int64_t i = 0; i < left; ++i) out.add(fill.str());
  out.add(t);
  for (int64_t i = left; i < missing; ++i) out.add(fill.str());
  return out.value(e.heap, t.markup);
}

bool is_cased_as(Evaluator& e, const std::string& s, bool upper) {
  e.step_bytes(s.size() * 8);
  bool any = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_char(s, at);
    if (upper ? is_lower(c) || is_title(c) : is_upper(c) || is_title(c)) return false;
    any = any || (upper ? is_upper(c) : is_lower(c));
  }
  return any;
}

}  // namespace linnet::text::jinja
