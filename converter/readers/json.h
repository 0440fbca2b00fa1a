// JSON from files that may be hostile: bounded in depth, duplicate keys refused, no exception escapes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "linnet/result.h"

namespace linnet::convert {

using Json = nlohmann::json;

// `what` names the text in messages. Python's NaN, Infinity and -Infinity are read as null, 1e308 and -1e308
// when `python` is set (config.json is written by Python). Errors: kInvalidFile with the position.
Result<Json> parse_json(std::string_view text, const std::string& what, bool python = false);
Result<Json> read_json(const std::string& path, bool python = false);
// A value as JSON on one line, what is no UTF-8 replaced; its first `most` bytes, for messages. Use it
// instead of Json::dump(), which throws, and whose code would be made in every file anew.
std::string json_text(const Json& value, size_t most = 200);
// The whole file as text; at most `limit` bytes.
Result<std::string> read_text(const std::string& path, size_t limit = size_t{256} << 20);

}  // namespace linnet::convert
