// The filters of the template language that chat templates use.
#include <algorithm>
#include <cmath>

#include "runtime/text/template_eval.h"
#include "runtime/text/template_strings.h"

namespace linnet::text::jinja {
namespace {

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
  return filter_items(name, v, args, line);
}

// The filters that walk items or make them.
Value Evaluator::filter_items(const std::string& name, const Value& v, const Arguments& args, int line) {
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
    const Value* separator = args.get(0, "d");
    const std::string by = separator ? text_of(*separator, line) : std::string();
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

}  // namespace linnet::text::jinja
