#include "runtime/text/template_value.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace linnet::text::jinja {

bool truthy(const Value& v) {
  if (v.is<Undefined>() || v.is<None>()) return false;
  if (v.is<bool>()) return std::get<bool>(v.data);
  if (v.is<int64_t>()) return std::get<int64_t>(v.data) != 0;
  if (v.is<double>()) return std::get<double>(v.data) != 0;
  if (v.is_string()) return !v.string().empty();
  if (v.is_list()) return !v.list().empty();
  if (v.is_dict()) return !v.dict().empty();
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.real() == b.real();
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if (a.is_list() && b.is_list()) {
    if (a.list().size() != b.list().size()) return false;
    for (size_t i = 0; i < a.list().size(); ++i)
      if (!equal(a.list()[i], b.list()[i])) return false;
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().size() != b.dict().size()) return false;
    for (const auto& [key, value] : a.dict()) {
      const Value* other = find(b.dict(), key);
      if (!other || !equal(value, *other)) return false;
    }
    return true;
  }
  return (a.is<None>() && b.is<None>()) || (a.is<Undefined>() && b.is<Undefined>());
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0;
  if (a.is_string() && b.is_string()) return a.string() < b.string() ? -1 : a.string() == b.string() ? 0 : 1;
  throw Failure{std::string("cannot compare ") + type_name(a) + " with " + type_name(b)};
}

const char* type_name(const Value& v) {
  constexpr std::array<const char*, 11> kNames = {"undefined", "none",     "boolean", "integer",
                                                  "number",    "string",   "list",    "mapping",
                                                  "macro",     "function", "method"};
  return kNames[v.data.index()];
}

static std::string number_text(double d) {
  if (std::isfinite(d) && d == std::floor(d) && std::fabs(d) < 1e16) {
    std::array<char, 40> buffer;
    std::snprintf(buffer.data(), buffer.size(), "%.1f", d);
    return buffer.data();
  }
  // The shortest form that reads back as the same number, as Python prints it.
  std::array<char, 40> buffer{};
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, d);
    if (std::strtod(buffer.data(), nullptr) == d) break;
  }
  return buffer.data();
}

std::string to_text(const Value& v) {
  if (v.is<Undefined>()) return {};
  if (v.is_string()) return v.string();
  return to_repr(v);
}

static void bound(const std::string& out) {
  if (out.size() > kMostOutput) throw Failure{kTooLong, 0, false, true};
}

static void quoted(const std::string& s, std::string& out) {
  const char quote = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (const char c : s) {
    if (c == quote || c == '\\')
      out += '\\', out += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else
      out += c;
  }
  out += quote;
}

static void append_repr(const Value& v, std::string& out) {
  bound(out);
  if (v.is<Undefined>()) {
    out += "Undefined";
  } else if (v.is<None>()) {
    out += "None";
  } else if (v.is<bool>()) {
    out += std::get<bool>(v.data) ? "True" : "False";
  } else if (v.is<int64_t>()) {
    out += std::to_string(std::get<int64_t>(v.data));
  } else if (v.is<double>()) {
    out += number_text(std::get<double>(v.data));
  } else if (v.is_string()) {
    quoted(v.string(), out);
  } else if (v.is_list()) {
    out += '[';
    for (size_t i = 0; i < v.list().size(); ++i) {
      if (i) out += ", ";
      append_repr(v.list()[i], out);
    }
    out += ']';
  } else if (v.is_dict()) {
    out += '{';
    for (size_t i = 0; i < v.dict().size(); ++i) {
      if (i) out += ", ";
      quoted(v.dict()[i].first, out);
      out += ": ";
      append_repr(v.dict()[i].second, out);
    }
    out += '}';
  } else {
    out += std::string("<") + type_name(v) + ">";
  }
}

std::string to_repr(const Value& v) {
  std::string out;
  append_repr(v, out);
  bound(out);
  return out;
}

static void json_string(const std::string& s, std::string& out) {
  out += '"';
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          std::array<char, 8> buffer;
          std::snprintf(buffer.data(), buffer.size(), "\\u%04x", static_cast<unsigned>(c));
          out += buffer.data();
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

static void json_value(const Value& v, int indent, int depth, std::string& out) {
  if (depth > 64) throw Failure{"tojson: nested too deeply", 0, false, true};
  bound(out);
  const auto line = [&](int level) {
    if (indent >= 0) out += '\n', out.append(static_cast<size_t>(indent * level), ' ');
  };
  if (v.is_string()) {
    json_string(v.string(), out);
  } else if (v.is_list()) {
    out += '[';
    for (size_t i = 0; i < v.list().size(); ++i) {
      if (i) out += indent >= 0 ? "," : ", ";
      line(depth + 1);
      json_value(v.list()[i], indent, depth + 1, out);
    }
    if (!v.list().empty()) line(depth);
    out += ']';
  } else if (v.is_dict()) {
    out += '{';
    for (size_t i = 0; i < v.dict().size(); ++i) {
      if (i) out += indent >= 0 ? "," : ", ";
      line(depth + 1);
      json_string(v.dict()[i].first, out);
      out += ": ";
      json_value(v.dict()[i].second, indent, depth + 1, out);
    }
    if (!v.dict().empty()) line(depth);
    out += '}';
  } else if (v.is<None>()) {
    out += "null";
  } else if (v.is<bool>()) {
    out += std::get<bool>(v.data) ? "true" : "false";
  } else if (v.is_number()) {
    out += to_repr(v);
  } else {
    throw Failure{std::string("tojson: a value of type ") + type_name(v) + " has no JSON"};
  }
}

std::string to_json(const Value& v, int indent) {
  std::string out;
  json_value(v, indent, 0, out);
  return out;
}

const Value* find(const Dict& dict, const std::string& key) {
  for (const auto& [name, value] : dict)
    if (name == key) return &value;
  return nullptr;
}

void assign(Dict& dict, const std::string& key, Value value) {
  for (auto& [name, old] : dict) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  dict.emplace_back(key, std::move(value));
}

static bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

int64_t code_points(const std::string& s) {
  int64_t n = 0;
  for (const char c : s) n += continues(c) ? 0 : 1;
  return n;
}

std::string substring(const std::string& s, int64_t begin, int64_t end) {
  std::string out;
  int64_t index = -1;
  for (const char c : s) {
    if (!continues(c)) ++index;
    if (index >= end) break;
    if (index >= begin) out += c;
  }
  return out;
}

}  // namespace linnet::text::jinja
