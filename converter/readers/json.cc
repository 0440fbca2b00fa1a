#include "converter/readers/json.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <unordered_set>
#include <vector>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr size_t kMostDepth = 64;

// Looks at the structure before the tree is built: depth and duplicate keys.
class Inspector : public nlohmann::json_sax<Json> {
 public:
  std::string problem;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    keys_.emplace_back();
    return deeper();
  }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem = strf("the key '{}' is there twice in one object", name.substr(0, 200));
    return false;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    problem = strf("it is not valid JSON at byte {}", position);
    return false;
  }

 private:
  bool deeper() {
    if (++depth_ <= kMostDepth) return true;
    problem = strf("it is nested deeper than {} levels", kMostDepth);
    return false;
  }
  std::vector<std::unordered_set<std::string>> keys_;
  size_t depth_ = 0;
};

// JSON of Python's dialect: outside of strings, its names for what JSON cannot say become what JSON can.
std::string without_python_literals(std::string_view text) {
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
    } else if (text.substr(i).starts_with("Infinity")) {
      out += "1e308";
      i += 7;
    } else if (text.substr(i).starts_with("NaN")) {
      out += "null";
      i += 2;
    } else {
      quoted = c == '"';
      out += c;
    }
  }
  return out;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& what, bool python) {
  try {
    const std::string cleaned = python ? without_python_literals(text) : std::string(text);
    Inspector inspector;
    if (!Json::sax_parse(cleaned, &inspector))
      return fail(ErrorCode::kInvalidFile, strf("{} cannot be read: {}", what, inspector.problem));
    return Json::parse(cleaned);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInvalidFile, strf("{} cannot be read: {}", what, e.what()));
  }
}

std::string json_text(const Json& value, size_t most) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > most) text.resize(most);
  return text;
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
