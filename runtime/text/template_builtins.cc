// Tests, methods and functions of the template language that chat templates use.
#include <algorithm>
#include <array>
#include <ctime>

#include "runtime/text/template_eval.h"
#include "runtime/text/template_strings.h"

namespace linnet::text::jinja {

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
