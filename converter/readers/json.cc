#include "converter/readers/json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr size_t kMostDepth = 64;

// Builds the tree, but for what is nested too deep or has a key twice. nlohmann's own builder lets go of what
// it has when memory ends, which takes memory; here it lies in `root`, with whoever has that.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(Json& root) : root_(root) {}
  std::string problem;
  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t& value) override { return put(std::move(value)); }
  bool start_object(size_t) override { return enter(Json::value_t::object); }
  bool key(string_t& name) override {
    const auto [member, fresh] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    member_ = &member->second;
    if (!fresh) problem = strf("the key '{}' is there twice in one object", member->first.substr(0, 200));
    return fresh;
  }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter(Json::value_t::array); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    problem = strf("it is not valid JSON at byte {}", position);
    return false;
  }

 private:
  // Where the next value goes: the document, the member whose key was just read, or the end of the array.
  Json& place() {
    if (open_.empty()) return root_;
    if (open_.back()->is_object()) return *member_;
    return open_.back()->get_ref<Json::array_t&>().emplace_back();
  }
  template <typename T>
  bool put(T&& value) {
    place() = std::forward<T>(value);
    return true;
  }
  bool enter(Json::value_t kind) {
    if (open_.size() == kMostDepth) {
      problem = strf("it is nested deeper than {} levels", kMostDepth);
      return false;
    }
    Json& inner = place();
    inner = kind;
    open_.push_back(&inner);
    return true;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  Json* member_ = nullptr;
  std::vector<Json*> open_;  // the objects and arrays around the next value; none of them moves while open
};

constexpr std::string_view kFloat = "__float__";  // transformers 5's key around a number JSON cannot say

// JSON of Python's dialect: outside of strings, its names for what JSON cannot say become transformers 5's.
std::string without_python_literals(std::string_view text) {
  constexpr std::string_view kNames[] = {"-Infinity", "Infinity", "NaN"};
  std::string out;
  out.reserve(text.size());
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      out += c;
      if (c == '\\' && i + 1 < text.size())
        out += text[++i];
      else if (c == '"')
        quoted = false;
      continue;
    }
    const auto name = std::find_if(std::begin(kNames), std::end(kNames),
                                   [&](std::string_view n) { return text.substr(i).starts_with(n); });
    if (name != std::end(kNames)) {
      out.append("{\"").append(kFloat).append("\":\"").append(*name).append("\"}");
      i += name->size() - 1;
    } else {
      quoted = c == '"';
      out += c;
    }
  }
  return out;
}

std::optional<double> special_number(const std::string& name) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (name == "Infinity") return kInfinity;
  if (name == "-Infinity") return -kInfinity;
  if (name == "NaN") return std::numeric_limits<double>::quiet_NaN();
  return std::nullopt;
}

// Puts the numbers in place of the objects that stand for them.
void restore_numbers(Json& value) {
  if (value.is_object() && value.size() == 1 && value.begin().key() == kFloat && value.begin()->is_string()) {
    if (const auto number = special_number(value.begin()->get<std::string>())) value = *number;
  } else if (value.is_structured()) {
    for (Json& inner : value) restore_numbers(inner);
  }
}

// The other way: JSON's own dump() calls all of them null.
void name_numbers(Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    value = std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  } else if (value.is_structured()) {
    for (Json& inner : value) name_numbers(inner);
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& what, bool python) {
  try {
    const std::string cleaned = python ? without_python_literals(text) : std::string(text);
    Json parsed;
    const JsonRelease released(parsed);  // of nothing, once it is returned
    TreeBuilder builder(parsed);
    if (!Json::sax_parse(cleaned, &builder))
      return fail(ErrorCode::kInvalidFile, strf("{} cannot be read: {}", what, builder.problem));
    if (python) restore_numbers(parsed);
    return parsed;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidFile, strf("{} cannot be read: {}", what, e.what()));
  }
}

// From the innermost outwards: what is empty is destroyed without memory. The depth is at most that of a
// file.
void release(Json& value) noexcept {
  if (value.is_object()) {
    auto& members = value.get_ref<Json::object_t&>();
    for (auto& [key, inner] : members) release(inner);
    members.clear();
  } else if (value.is_array()) {
    auto& items = value.get_ref<Json::array_t&>();
    for (Json& inner : items) release(inner);
    items.clear();
  }
}

std::string json_text(const Json& value, size_t most) {
  Json named = value;
  const JsonRelease released(named);
  name_numbers(named);
  std::string text = named.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > most) text.resize(most);
  return text;
}

bool is_text(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

std::optional<int64_t> integer_of(const Json& value, int64_t least, int64_t most) {
  int64_t n = 0;
  if (value.is_number_unsigned()) {
    if (value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
    n = static_cast<int64_t>(value.get<uint64_t>());
  } else if (value.is_number_integer()) {
    n = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const double d = value.get<double>();
    if (!(std::fabs(d) < 0x1p53) || d != std::floor(d)) return std::nullopt;
    n = static_cast<int64_t>(d);
  } else {
    return std::nullopt;
  }
  return n < least || n > most ? std::nullopt : std::optional(n);
}

std::optional<double> number_of(const Json& value, bool infinite) {
  if (!value.is_number()) return std::nullopt;
  const double d = value.get<double>();
  return std::isnan(d) || (std::isinf(d) && !infinite) ? std::nullopt : std::optional(d);
}

Result<int64_t> read_integer(const Json& value, const std::string& what, int64_t least, int64_t most) {
  if (const auto n = integer_of(value, least, most)) return *n;
  return fail(ErrorCode::kInvalidFile,
              strf("{} is {}, expected an integer from {} to {}", what, json_text(value), least, most));
}

Result<double> read_number(const Json& value, const std::string& what, bool infinite) {
  if (const auto d = number_of(value, infinite)) return *d;
  return fail(ErrorCode::kInvalidFile,
              strf("{} is {}, expected a {}number", what, json_text(value), infinite ? "" : "finite "));
}

Result<std::string> read_text(const std::string& path, size_t limit) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    return fail(ErrorCode::kInvalidFile, strf("'{}' is not a regular file", path));
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file)
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                strf("cannot open '{}': {}", path, std::strerror(errno)));
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0 || static_cast<size_t>(size) > limit)
    return fail(ErrorCode::kInvalidFile, strf("'{}' has {} bytes, at most {} are read", path, size, limit));
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  file.read(text.data(), size);
  if (!file) return fail(ErrorCode::kIo, strf("cannot read '{}': {}", path, std::strerror(errno)));
  return text;
}

Result<Json> read_json(const std::string& path, bool python) {
  LINNET_ASSIGN(const std::string text, read_text(path));
  return parse_json(text, "'" + path + "'", python);
}

}  // namespace linnet::convert
