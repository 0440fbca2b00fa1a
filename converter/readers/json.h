// JSON from files that may be hostile: bounded in depth, duplicate keys refused, no exception escapes.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "linnet/result.h"

namespace linnet::convert {

using Json = nlohmann::json;

// `what` names the text in messages. With `python`, what Python's json and transformers 5 write for numbers
// that JSON cannot say is read as those numbers: NaN, Infinity and -Infinity bare, or as {"__float__":
// "Infinity"}. Errors: kInvalidFile with the position.
Result<Json> parse_json(std::string_view text, const std::string& what, bool python = false);
Result<Json> read_json(const std::string& path, bool python = false);

// Empties a value without taking memory. nlohmann's own destructor takes some for every array and object that
// is not empty, and ends the process where there is none.
void release(Json& value) noexcept;
// Does so at the end of a scope: for a value that stays while much else is allocated.
class JsonRelease {
 public:
  explicit JsonRelease(Json& value) : value_(value) {}
  ~JsonRelease() { release(value_); }
  JsonRelease(const JsonRelease&) = delete;
  JsonRelease& operator=(const JsonRelease&) = delete;

 private:
  Json& value_;
};

// A value as JSON on one line, what is no UTF-8 replaced; its first `most` bytes, for messages. Use it
// instead of Json::dump(), which throws, and whose code would be made in every file anew.
std::string json_text(const Json& value, size_t most = 200);

// ---- numbers: read here and nowhere else, so that type and range are asked for everywhere ----
// Nothing for what is no whole number (2.0 is one) or out of range.
std::optional<int64_t> integer_of(const Json& value, int64_t least, int64_t most);
// Nothing for what is no number; nor for NaN and, unless `infinite`, for the infinities.
std::optional<double> number_of(const Json& value, bool infinite = false);
// The same as a Result: kInvalidFile, "WHAT is VALUE, expected an integer from LEAST to MOST". `what` names
// file and key.
Result<int64_t> read_integer(const Json& value, const std::string& what, int64_t least, int64_t most);
Result<double> read_number(const Json& value, const std::string& what, bool infinite = false);

// Whether it is this text. nlohmann's == with a text takes memory, and ends the process where there is none.
bool is_text(const Json& value, std::string_view text);

// The whole file as text; at most `limit` bytes.
Result<std::string> read_text(const std::string& path, size_t limit = size_t{256} << 20);

}  // namespace linnet::convert
