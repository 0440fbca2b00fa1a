// Filters, tests, methods and functions of the template language that chat templates use.
#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include "runtime/text/template_eval.h"

namespace linnet::text::jinja {
namespace {

constexpr const char* kSpaces = " \t\n\r\f\v";

std::string stripped(const std::string& s, const std::string& characters, bool left, bool right) {
  const size_t begin = left ? s.find_first_not_of(characters) : 0;
  if (begin == std::string::npos || s.empty()) return {};
  const size_t end = right ? s.find_last_not_of(characters) : s.size() - 1;
  return end == std::string::npos ? std::string() : s.substr(begin, end - begin + 1);
}

std::string cased(std::string s, bool upper) {  // ASCII: roles and flags
  for (char& c : s) {
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return s;
}

std::string capitalized(std::string s) {
  s = cased(std::move(s), false);
  if (!s.empty() && s[0] >= 'a' && s[0] <= 'z') s[0] = static_cast<char>(s[0] - 32);
  return s;
}

std::string titled(std::string s) {
  bool start = true;
  for (char& c : s) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter)
      c = start ? (c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c)
                : (c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    start = !letter;
  }
  return s;
}

std::string replaced(const std::string& s, const std::string& from, const std::string& to, int64_t most) {
  if (from.empty()) return s;
  std::string result;
  size_t at = 0;
  while (most-- != 0) {
    const size_t found = s.find(from, at);
    if (found == std::string::npos) break;
    result.append(s, at, found - at).append(to);
    at = found + from.size();
    if (result.size() > kMostOutput) throw Failure{kTooLong, 0, false, true};
  }
  return result.append(s, at);
}

List split(const std::string& s, const Value* separator, int64_t most, bool from_right) {
  List parts;
  if (!separator || separator->is<None>()) {
    size_t at = s.find_first_not_of(kSpaces);
    while (at != std::string::npos) {
      if (most == 0) {
        parts.emplace_back(stripped(s.substr(at), kSpaces, false, true));
        return parts;
      }
      const size_t end = s.find_first_of(kSpaces, at);
      parts.emplace_back(s.substr(at, end == std::string::npos ? end : end - at));
      at = end == std::string::npos ? end : s.find_first_not_of(kSpaces, end);
      --most;
    }
    return parts;
  }
  const std::string by = to_text(*separator);
  if (by.empty()) throw Failure{"split by an empty text"};
  if (from_right) {
    size_t end = s.size();
    while (most-- != 0 && end > 0) {
      const size_t found = s.rfind(by, end - 1);
      if (found == std::string::npos || found + by.size() > end) break;
      parts.emplace_back(s.substr(found + by.size(), end - found - by.size()));
      end = found;
    }
    parts.emplace_back(s.substr(0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t at = 0;
  while (most-- != 0) {
    const size_t found = s.find(by, at);
    if (found == std::string::npos) break;
    parts.emplace_back(s.substr(at, found - at));
    at = found + by.size();
  }
  parts.emplace_back(s.substr(at));
  return parts;
}

// How many parts split() can make at most, for the count of steps.
int64_t most_parts(const std::string& s, const Value* by) {
  if (by && by->is_string() && !by->string().empty())
    return 1 + static_cast<int64_t>(std::ranges::count(s, by->string()[0]));
  return 1 + static_cast<int64_t>(s.size() / 2);
}

int64_t length_of(const Value& v, int line) {
  if (v.is_string()) return code_points(v.string());
  if (v.is_list()) return static_cast<int64_t>(v.list().size());
  if (v.is_dict()) return static_cast<int64_t>(v.dict().size());
  if (v.is<Undefined>()) return 0;
  throw Failure{std::string("a ") + type_name(v) + " has no length", line};
}

// "a.b" of an item, as map(attribute=) and selectattr take it.
Value attribute_of(const Value& item, const std::string& path) {
  Value v = item;
  for (size_t at = 0; at <= path.size();) {
    const size_t dot = std::min(path.find('.', at), path.size());
    const Value* inner = v.is_dict() ? find(v.dict(), path.substr(at, dot - at)) : nullptr;
    if (!inner) return {};
    const Value next = *inner;
    v = next;
    at = dot + 1;
  }
  return v;
}

}  // namespace

// str.format with {} and {0}; the rest of its language no chat template uses.
Value Evaluator::formatted(const std::string& pattern, const Arguments& args, int line) {
  std::string result;
  size_t next = 0;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if ((c == '{' || c == '}') && at + 1 < pattern.size() && pattern[at + 1] == c) {
      result += c;
      ++at;
    } else if (c == '{') {
      const size_t end = std::min(pattern.find('}', at), pattern.size());
      const std::string field = pattern.substr(at + 1, end - at - 1);
      const bool digits = std::ranges::all_of(field, [](char d) { return d >= '0' && d <= '9'; });
      if (end == pattern.size() || !digits || field.size() > 3)
        throw Failure{"format: the field '{" + field.substr(0, 40) + "' is not supported", line};
      const size_t index = field.empty() ? next++ : static_cast<size_t>(std::stoi(field));
      if (index >= args.positional.size()) throw Failure{"format: there are fewer values than fields", line};
      result += text_of(args.positional[index], line);
      made(result.size(), line);
      at = end;
    } else {
      result += c;
    }
  }
  return Value(std::move(result));
}

Value Evaluator::filter(const std::string& name, const Value& v, const Arguments& args, int line) {
  step(line, cost(v));
  const auto text = [&](size_t i, const char* key, const char* absent) {
    const Value* a = args.get(i, key);
    return a ? text_of(*a, line) : std::string(absent);
  };
  const auto integer = [&](size_t i, const char* key, int64_t absent) {
    const Value* a = args.get(i, key);
    return a && a->is_number() ? a->integer() : absent;
  };
  if (name == "trim") return Value(stripped(to_text(v), text(0, "chars", kSpaces), true, true));
  if (name == "upper") return Value(cased(to_text(v), true));
  if (name == "lower") return Value(cased(to_text(v), false));
  if (name == "capitalize") return Value(capitalized(to_text(v)));
  if (name == "title") return Value(titled(to_text(v)));
  if (name == "string") return Value(text_of(v, line));
  if (name == "safe") return v;
  if (name == "length" || name == "count") return Value(length_of(v, line));
  if (name == "tojson") {
    std::string json = to_json(v, static_cast<int>(std::clamp<int64_t>(integer(0, "indent", -1), -1, 16)));
    made(json.size(), line);
    return Value(std::move(json));
  }
  if (name == "default" || name == "d") {
    const Value* even_if_false = args.get(1, "boolean");
    const bool use = v.is<Undefined>() || (even_if_false && truthy(*even_if_false) && !truthy(v));
    const Value* absent = args.get(0, "default_value");
    return use ? (absent ? *absent : Value("")) : v;
  }
  if (name == "replace") {
    const std::string source = text_of(v, line), old = text(0, "old", "");
    search(source, old, line);
    std::string result = replaced(source, old, text(1, "new", ""), integer(2, "count", -1));
    made(result.size(), line);
    return Value(std::move(result));
  }
  if (name == "int") {
    if (v.is_number()) return Value(v.integer());
    if (v.is_string()) {
      char* end = nullptr;
      const std::string s = stripped(v.string(), kSpaces, true, true);
      const long long parsed = std::strtoll(s.c_str(), &end, 10);
      if (!s.empty() && *end == '\0') return Value(static_cast<int64_t>(parsed));
    }
    return Value(integer(0, "default", 0));
  }
  if (name == "float")
    return Value(v.is_number() ? v.real() : v.is_string() ? std::strtod(v.string().c_str(), nullptr) : 0.0);
  if (name == "abs" && v.is_number())
    return v.is<double>()
               ? Value(std::fabs(v.real()))
               : Value(v.integer() < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(v.integer()))
                                       : v.integer());
  if (name == "round" && v.is_number()) {
    const double scale =
        std::pow(10.0, static_cast<double>(std::clamp<int64_t>(integer(0, "precision", 0), -15, 15)));
    return Value(std::nearbyint(v.real() * scale) / scale);
  }
  if (name == "indent") {
    const auto width = static_cast<size_t>(std::clamp<int64_t>(integer(0, "width", 4), 0, 1000));
    const Value* first = args.get(1, "first");
    const Value* blank = args.get(2, "blank");
    const std::string source = to_text(v), pad(width, ' ');
    std::string result = first && truthy(*first) ? pad : "";
    for (size_t i = 0; i < source.size(); ++i) {
      result += source[i];
      const bool empty_line = i + 1 < source.size() && source[i + 1] == '\n';
      if (source[i] == '\n' && i + 1 < source.size() && (!empty_line || (blank && truthy(*blank))))
        result += pad;
      if (result.size() > kMostOutput) throw Failure{kTooLong, line, false, true};
    }
    made(result.size(), line);
    return Value(std::move(result));
  }
  if (name == "items") {
    if (v.is<Undefined>()) return Value(List{});
    if (!v.is_dict()) throw Failure{"items: not a mapping", line};
    List pairs;
    step(line, 4 * kItemSteps * static_cast<int64_t>(v.dict().size()));
    for (const auto& [key, value] : v.dict()) pairs.emplace_back(List{Value(key), value});
    return Value(std::move(pairs));
  }
  if (name == "join") {
    const Value* attribute = args.get(1, "attribute");
    const std::string by = text(0, "d", "");
    std::string result;
    bool first = true;
    for (const Value& item : sequence(v, line)) {
      if (!first) result += by;
      first = false;
      step(line, attribute ? cost(item) : 1);
      result += text_of(attribute ? attribute_of(item, to_text(*attribute)) : item, line);
      if (result.size() > kMostOutput) throw Failure{kTooLong, line, false, true};
    }
    made(result.size(), line);
    return Value(std::move(result));
  }
  // Jinja loops over what is there; none is nothing.
  const bool nothing = v.is<None>();
  if (name == "map") {
    List result;
    const Value* attribute = find(args.named, "attribute");
    for (const Value& item : nothing ? List{} : sequence(v, line)) {
      step(line, cost(item) + kItemSteps);
      if (attribute) {
        result.push_back(attribute_of(item, to_text(*attribute)));
        continue;
      }
      if (args.positional.empty()) throw Failure{"map: needs a filter or an attribute", line};
      Arguments rest = args;
      rest.positional.erase(rest.positional.begin());
      result.push_back(filter(to_text(args.positional[0]), item, rest, line));
    }
    return Value(std::move(result));
  }
  if (name == "selectattr" || name == "rejectattr" || name == "select" || name == "reject") {
    const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
    const size_t skip = by_attribute ? 1 : 0;
    if (args.positional.size() < skip) throw Failure{name + ": needs an attribute", line};
    List result;
    for (const Value& item : nothing ? List{} : sequence(v, line)) {
      step(line, cost(item) + kItemSteps);
      const Value subject = by_attribute ? attribute_of(item, to_text(args.positional[0])) : item;
      bool holds = truthy(subject);
      if (args.positional.size() > skip) {
        Arguments rest;
        rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(skip) + 1,
                               args.positional.end());
        holds = test(to_text(args.positional[skip]), subject, rest, line);
      }
      if (holds == keep) result.push_back(item);
    }
    return Value(std::move(result));
  }
  if (name == "list") return Value(sequence(v, line));
  if (name == "first" || name == "last") {
    const List items = sequence(v, line);
    return items.empty() ? Value() : name == "first" ? items.front() : items.back();
  }
  if (name == "reverse") {
    List items = sequence(v, line);
    std::reverse(items.begin(), items.end());
    if (!v.is_string()) return Value(std::move(items));
    std::string result;
    for (const Value& c : items) result += c.string();
    return Value(std::move(result));
  }
  if (name == "unique" || name == "sort") {
    List items = sequence(v, line);
    if (name == "sort") {
      std::stable_sort(items.begin(), items.end(), [&](const Value& a, const Value& b) {
        step(line, std::min(cost(a), cost(b)));
        return compare(a, b) < 0;
      });
      return Value(std::move(items));
    }
    List kept;
    for (const Value& item : items) {
      step(line, static_cast<int64_t>(kept.size()));
      if (std::ranges::none_of(kept, [&](const Value& k) { return same(k, item, line); }))
        kept.push_back(item);
    }
    return Value(std::move(kept));
  }
  if (name == "dictsort" && v.is_dict()) {
    Dict sorted = v.dict();
    std::stable_sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) {
      step(line, 1 + static_cast<int64_t>(std::min(a.first.size(), b.first.size()) / 256));
      return a.first < b.first;
    });
    step(line, 4 * kItemSteps * static_cast<int64_t>(sorted.size()));
    List pairs;
    for (auto& [key, value] : sorted) pairs.emplace_back(List{Value(key), value});
    return Value(std::move(pairs));
  }
  throw Failure{"the filter '" + name + "' is not supported here", line};
}

bool Evaluator::test(const std::string& name, const Value& v, const Arguments& args, int line) {
  const Value* other = args.get(0, "other");
  step(line, other ? cost(*other) : v.is_string() ? cost(v) : 1);
  if (name == "defined") return !v.is<Undefined>();
  if (name == "undefined") return v.is<Undefined>();
  if (name == "none") return v.is<None>();
  if (name == "string") return v.is_string();
  if (name == "boolean") return v.is<bool>();
  if (name == "integer") return v.is<int64_t>();
  if (name == "float") return v.is<double>();
  if (name == "number") return v.is_number();
  if (name == "mapping") return v.is_dict();
  if (name == "iterable" || name == "sequence") return v.is_list() || v.is_dict() || v.is_string();
  if (name == "callable") return v.is<MacroRef>() || v.is<Builtin>() || v.is<Method>();
  if (name == "true") return v.is<bool>() && truthy(v);
  if (name == "false") return v.is<bool>() && !truthy(v);
  if (name == "odd" && v.is_number()) return v.integer() % 2 != 0;
  if (name == "even" && v.is_number()) return v.integer() % 2 == 0;
  if (name == "lower" && v.is_string()) return v.string() == cased(v.string(), false);
  if (name == "upper" && v.is_string()) return v.string() == cased(v.string(), true);
  if (other) {
    if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") return same(v, *other, line);
    if (name == "ne" || name == "!=") return !same(v, *other, line);
    if (name == "in") {
      if (other->is_string() && v.is_string()) search(other->string(), v.string(), line);
      if (other->is_string()) return v.is_string() && other->string().find(v.string()) != std::string::npos;
      if (other->is_dict()) return v.is_string() && find(other->dict(), v.string());
      return std::ranges::any_of(sequence(*other, line),
                                 [&](const Value& item) { return same(item, v, line); });
    }
    if (name == "gt" || name == "greaterthan" || name == ">") return compare(v, *other) > 0;
    if (name == "lt" || name == "lessthan" || name == "<") return compare(v, *other) < 0;
    if (name == "ge" || name == ">=") return compare(v, *other) >= 0;
    if (name == "le" || name == "<=") return compare(v, *other) <= 0;
    if (name == "divisibleby" && v.is_number() && other->is_number() && other->integer() != 0 &&
        other->integer() != -1)
      return v.integer() % other->integer() == 0;
  }
  throw Failure{"the test '" + name + "' is not supported here", line};
}

Value Evaluator::method(const Value& object, const std::string& name, const Arguments& args, int line) {
  step(line, cost(object));
  const auto text = [&](size_t i, const std::string& absent) {
    return i < args.positional.size() ? text_of(args.positional[i], line) : absent;
  };
  if (object.is_string()) {
    const std::string& s = object.string();
    if (name == "strip" || name == "lstrip" || name == "rstrip")
      return Value(stripped(s, text(0, kSpaces), name != "rstrip", name != "lstrip"));
    if (name == "upper" || name == "lower") return Value(cased(s, name == "upper"));
    if (name == "capitalize") return Value(capitalized(s));
    if (name == "title") return Value(titled(s));
    if (name == "split" || name == "rsplit") {
      const Value* most = args.get(1, "maxsplit");
      const Value* by = args.get(0, "sep");
      if (by && by->is_string()) search(s, by->string(), line);
      step(line, kItemSteps * most_parts(s, by));
      return Value(split(s, by, most && most->is_number() ? most->integer() : -1, name == "rsplit"));
    }
    if (name == "splitlines") {
      List lines;
      for (size_t at = 0; at < s.size();) {
        const size_t end = std::min(s.find('\n', at), s.size());
        step(line, kItemSteps);
        lines.emplace_back(s.substr(at, end - at));
        at = end + 1;
      }
      return Value(std::move(lines));
    }
    if (name == "startswith" || name == "endswith") {
      const auto holds = [&](const Value& v) {
        const std::string part = text_of(v, line);
        return name == "startswith" ? s.starts_with(part) : s.ends_with(part);
      };
      if (args.positional.empty()) throw Failure{name + ": needs a text", line};
      if (!args.positional[0].is_list()) return Value(holds(args.positional[0]));
      return Value(std::ranges::any_of(args.positional[0].list(), holds));
    }
    if (name == "format") return formatted(s, args, line);
    if (name == "replace") {
      const std::string old = text(0, "");
      search(s, old, line);
      std::string result = replaced(
          s, old, text(1, ""),
          args.positional.size() > 2 && args.positional[2].is_number() ? args.positional[2].integer() : -1);
      made(result.size(), line);
      return Value(std::move(result));
    }
    if (name == "find" || name == "rfind" || name == "index") {
      const std::string part = text(0, "");
      search(s, part, line);
      const size_t at = name == "rfind" ? s.rfind(part) : s.find(part);
      if (at == std::string::npos && name == "index") throw Failure{"index: not found", line};
      return Value(at == std::string::npos ? int64_t{-1} : code_points(s.substr(0, at)));
    }
    if (name == "count") {
      int64_t n = 0;
      const std::string part = text(0, "");
      search(s, part, line);
      for (size_t at = part.empty() ? std::string::npos : s.find(part); at != std::string::npos;
           at = s.find(part, at + part.size()))
        ++n;
      return Value(n);
    }
    if (name == "join") {
      std::string result;
      bool first = true;
      if (!args.positional.empty())
        for (const Value& item : sequence(args.positional[0], line)) {
          if (!first) result += s;
          first = false;
          result += text_of(item, line);
          if (result.size() > kMostOutput) throw Failure{kTooLong, line, false, true};
        }
      made(result.size(), line);
      return Value(std::move(result));
    }
    if (name == "isdigit" || name == "isalpha" || name == "isspace") {
      const auto holds = [&](char c) {
        return name == "isdigit"   ? c >= '0' && c <= '9'
               : name == "isspace" ? std::string_view(kSpaces).find(c) != std::string_view::npos
                                   : (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      };
      return Value(!s.empty() && std::ranges::all_of(s, holds));
    }
  }
  if (object.is_dict()) {
    if (name == "items") return filter("items", object, {}, line);
    List result;
    if (name == "keys" || name == "values") {
      step(line, kItemSteps * static_cast<int64_t>(object.dict().size()));
      for (const auto& [key, value] : object.dict()) result.push_back(name == "keys" ? Value(key) : value);
      return Value(std::move(result));
    }
    if (name == "get") {
      const Value* v = find(object.dict(), text(0, ""));
      return v ? *v : args.positional.size() > 1 ? args.positional[1] : Value(None{});
    }
  }
  if (object.is_list() && (name == "index" || name == "count") && !args.positional.empty()) {
    int64_t n = 0;
    for (size_t i = 0; i < object.list().size(); ++i) {
      if (!same(object.list()[i], args.positional[0], line)) continue;
      if (name == "index") return Value(static_cast<int64_t>(i));
      ++n;
    }
    if (name == "count") return Value(n);
  }
  // transformers renders in a sandbox that forbids changing lists and mappings, too.
  throw Failure{std::string("a ") + type_name(object) + " has no method '" + name + "' here", line};
}

Value Evaluator::function(const std::string& name, const Arguments& args, int line) {
  if (name == "raise_exception")
    throw Failure{
        args.positional.empty() ? "the template refuses this conversation" : to_text(args.positional[0]),
        line, true};
  if (name == "namespace" || name == "dict") {
    Dict fields =
        !args.positional.empty() && args.positional[0].is_dict() ? args.positional[0].dict() : Dict{};
    for (const auto& [key, value] : args.named) {
      step(line, static_cast<int64_t>(fields.size() / 4));
      assign(fields, key, value);
    }
    Value made_of(std::move(fields));
    check_nesting(made_of, nullptr, 0, line);
    return made_of;
  }
  if (name == "range") {
    std::array<int64_t, 3> bounds = {0, 0, 1};
    const size_t n = args.positional.size();
    if (n < 1 || n > 3 || !std::ranges::all_of(args.positional, [](const Value& v) { return v.is_number(); }))
      throw Failure{"range: needs one to three integers", line};
    if (n == 1) bounds[1] = args.positional[0].integer();
    for (size_t i = 0; n > 1 && i < n; ++i) bounds[i] = args.positional[i].integer();
    if (bounds[2] == 0) throw Failure{"range: the step is 0", line};
    List items;
    for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1];) {
      step(line, kItemSteps);
      items.emplace_back(i);
      if (__builtin_add_overflow(i, bounds[2], &i)) break;
    }
    return Value(std::move(items));
  }
  if (name == "strftime_now") {
    const std::time_t clock = now >= 0 ? static_cast<std::time_t>(now) : std::time(nullptr);
    std::tm local{};
    localtime_r(&clock, &local);
    std::array<char, 256> buffer{};
    const std::string pattern = args.positional.empty() ? "%Y-%m-%d" : to_text(args.positional[0]);
    const size_t length = std::strftime(buffer.data(), buffer.size(), pattern.c_str(), &local);
    return Value(std::string(buffer.data(), length));
  }
  throw Failure{"the function '" + name + "' is not supported", line};
}

}  // namespace linnet::text::jinja
