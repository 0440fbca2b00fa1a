// str(), repr() and JSON of values, as Python writes them.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "runtime/core/strings.h"
#include "runtime/text/template_eval.h"
#include "runtime/text/template_numbers.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::text::jinja {
namespace {

std::string hexadecimal(const char* format, char32_t c) {
  std::array<char, 16> buffer;
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(c));
  return buffer.data();
}

bool is_user(const Text& t) { return !t.user.empty(); }

void quoted(TextBuilder& to, const Text& t, bool ascii) {
  const std::string& s = t.bytes;
  const char quote = s.find('\'') != s.npos && s.find('"') == s.npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const char32_t c = next_char(s, at);
    if (c == static_cast<char32_t>(quote) || c == '\\')
      out += '\\', out += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else if (is_printable(c) && !(ascii && c >= 0x80))
      out.append(s, begin, at - begin);
    else
      out += c < 0x100     ? hexadecimal("\\x%02x", c)
             : c < 0x10000 ? hexadecimal("\\u%04x", c)
                           : hexadecimal("\\U%08x", c);
  }
  out += quote;
  to.add_made(out, is_user(t));
}

struct Repr {
  Evaluator& e;
  TextBuilder& to;
  bool ascii;

  void value(const Value& v) {
    e.stack.check();
    e.step();
    if (v.undefined()) return to.add("Undefined");
    if (v.none()) return to.add("None");
    if (v.boolean()) return to.add(v.integer() ? "True" : "False");
    if (v.integral()) return to.add(std::to_string(v.integer()));
    if (v.real()) return to.add(float_text(v.as_real()));
    if (v.text()) {
      e.step_bytes(v.bytes().size() * 8);
      if (v.str().markup) to.add("Markup(");
      quoted(to, v.str(), ascii);
      if (v.str().markup) to.add(")");
      return;
    }
    if (v.sequence()) {
      to.add(v.tuple() ? "(" : "[");
      items(v.items());
      to.add(v.list() ? "]" : v.items().size() == 1 ? ",)" : ")");
    } else if (v.dict()) {
      dict(v.map());
    } else {
      object(v);
    }
  }

 private:
  void items(const List& list) {
    for (size_t i = 0; i < list.size(); ++i) {
      if (i) to.add(", ");
      value(list[i]);
    }
  }
  void dict(const Dict& map) {
    to.add("{");
    bool first = true;
    for (const auto& [key, item] : map.entries) {
      if (!std::exchange(first, false)) to.add(", ");
      value(key);
      to.add(": ");
      value(item);
    }
    to.add("}");
  }
  void object(const Value& v) {
    const Object& o = v.obj();
    if (o.kind == Object::kNamespace) {
      to.add("<Namespace {");
      bool first = true;
      for (const auto& [name, item] : static_cast<const Namespace&>(o).attributes) {
        if (!std::exchange(first, false)) to.add(", ");
        Text key;
        key.bytes = name;
        quoted(to, key, ascii);
        to.add(": ");
        value(item);
      }
      return to.add("}>");
    }
    if (o.kind == Object::kRange) {
      const auto& r = static_cast<const Range&>(o);
      to.add(r.step == 1 ? strf("range({}, {})", r.start, r.stop)
                         : strf("range({}, {}, {})", r.start, r.stop, r.step));
      return;
    }
    if (o.kind == Object::kView) {
      const auto& view = static_cast<const View&>(o);
      to.add(view.part == View::kKeys     ? "dict_keys(["
             : view.part == View::kValues ? "dict_values(["
                                          : "dict_items([");
      items(e.all_of(v));
      return to.add("])");
    }
    if (o.kind == Object::kLoop) {
      auto& loop = static_cast<Loop&>(v.obj());
      return to.add(strf("<LoopContext {}/{}>", loop.index0 + 1, loop.length(e)));
    }
    if (o.kind == Object::kMacro) {
      const std::string& name = static_cast<const Macro&>(o).node->name;
      return to.add(name.empty() ? std::string("<Macro anonymous>") : strf("<Macro '{}'>", name));
    }
    unsupported(strf("the text of a {}, which in Python is an address in memory", type_name(v)));
  }
};

}  // namespace

void Evaluator::write_repr(TextBuilder& to, const Value& v) { Repr{*this, to, false}.value(v); }
void Evaluator::write_ascii(TextBuilder& to, const Value& v) { Repr{*this, to, true}.value(v); }

void Evaluator::write(TextBuilder& to, const Value& v) {
  if (v.text()) {
    step_bytes(v.bytes().size());
    to.add(v.str());
  } else if (!v.undefined()) {
    write_repr(to, v);
  }
}

Value Evaluator::text_of(const Value& v) {
  if (v.text() && !v.str().markup) return v;
  TextBuilder out;
  write(out, v);
  return out.value(heap);
}

Value Evaluator::soft_text_of(const Value& v) { return v.text() ? v : text_of(v); }

// ---- JSON ----
namespace {

struct Json {
  Evaluator& e;
  TextBuilder out;
  bool ascii = false, sorted = false;
  std::optional<Value> indent;
  Value item_separator, key_separator;

  void value(const Value& v, int level) {
    e.stack.check();
    e.step();
    if (v.text()) return text(v.str());
    if (v.none()) return out.add("null");
    if (v.boolean()) return out.add(v.integer() ? "true" : "false");
    if (v.integral()) return out.add(std::to_string(v.integer()));
    if (v.real()) return out.add(number(v.as_real()));
    if (v.sequence()) {
      out.add("[");
      bool first = true;
      for (const Value& item : v.items()) {
        separate(first, level + 1);
        value(item, level + 1);
      }
      if (!first) line(level);
      return out.add("]");
    }
    if (!v.dict()) fail_with(strf("a {} has no JSON", type_name(v)));
    out.add("{");
    bool first = true;
    for (const auto& [key, item] : entries(v.map())) {
      separate(first, level + 1);
      this->key(key);
      out.add(key_separator.str());
      value(item, level + 1);
    }
    if (!first) line(level);
    out.add("}");
  }

 private:
  static std::string number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return float_text(d);
  }
  std::vector<std::pair<Value, Value>> entries(const Dict& map) {
    e.step(static_cast<int64_t>(map.entries.size()));
    auto list = map.entries;
    if (sorted)
      std::stable_sort(list.begin(), list.end(), [&](const auto& a, const auto& b) {
        e.step();
        return e.compare("<", a.first, b.first);
      });
    return list;
  }
  void line(int level) {
    if (!indent) return;
    out.add("\n");
    for (int i = 0; i < level; ++i) out.add(indent->str());
  }
  void separate(bool& first, int level) {
    if (!std::exchange(first, false)) out.add(item_separator.str());
    line(level);
  }
  void key(const Value& v) {
    if (v.text()) return text(v.str());
    out.add("\"");
    if (v.none())
      out.add("null");
    else if (v.boolean())
      out.add(v.integer() ? "true" : "false");
    else if (v.integral())
      out.add(std::to_string(v.integer()));
    else if (v.real())
      out.add(number(v.as_real()));
    else
      fail_with(strf("a {} cannot be a key of JSON", type_name(v)));
    out.add("\"");
  }
  void text(const Text& t) {
    e.step_bytes(t.bytes.size() * 8);
    std::string made = "\"";
    for (size_t at = 0; at < t.bytes.size();) {
      const size_t begin = at;
      const char32_t c = next_char(t.bytes, at);
      constexpr std::string_view kPlain = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
      const size_t simple = c < 0x80 ? kPlain.find(static_cast<char>(c)) : kPlain.npos;
      if (simple != kPlain.npos)
        made += '\\', made += kLetters[simple];
      else if (c < 0x20 || (ascii && c > 0x7E && c < 0x10000))
        made += hexadecimal("\\u%04x", c);
      else if (ascii && c >= 0x10000)
        made += hexadecimal("\\u%04x", 0xD800 + ((c - 0x10000) >> 10)) +
                hexadecimal("\\u%04x", 0xDC00 + ((c - 0x10000) & 0x3FF));
      else
        made.append(t.bytes, begin, at - begin);
    }
    made += '"';
    out.add_made(made, !t.user.empty());
  }
};

}  // namespace

Value Evaluator::to_json(const Value& v, const Arguments& args) {
  constexpr const char* kNames[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
  const Bound bound = bind_arguments("tojson", args, kNames, 0);
  Json json{*this, {}, bound[0] && truthy(*bound[0]), bound[3] && truthy(*bound[3]), {}, {}, {}};
  if (bound[1] && !bound[1]->none()) {
    if (bound[1]->text())
      json.indent = *bound[1];
    else
      json.indent =
          heap.text(std::string(static_cast<size_t>(std::clamp<int64_t>(whole(*bound[1]), 0, 1 << 20)), ' '));
  }
  json.item_separator = heap.text(json.indent ? "," : ", ");
  json.key_separator = heap.text(": ");
  if (bound[2] && !bound[2]->none()) {
    const List two = all_of(*bound[2]);
    if (two.size() != 2) fail_with("tojson: 'separators' are two texts");
    if (!two[0].text() || !two[1].text()) fail_with("tojson: 'separators' are two texts");
    json.item_separator = two[0];
    json.key_separator = two[1];
  }
  json.value(v, 0);
  return json.out.value(heap);
}

}  // namespace linnet::text::jinja
