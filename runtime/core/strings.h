// Message formatting. GCC 12 has no <format>; messages need no more than "{}".
#pragma once

#include <array>
#include <concepts>
#include <cstdio>
#include <string>
#include <string_view>

namespace linnet {

inline std::string to_text(std::string_view value) { return std::string(value); }
inline std::string to_text(const char* value) { return value; }
inline std::string to_text(const std::string& value) { return value; }
inline std::string to_text(bool value) { return value ? "true" : "false"; }
inline std::string to_text(char value) { return std::string(1, value); }
template <std::integral T>
std::string to_text(T value) {
  return std::to_string(value);
}
template <std::floating_point T>
std::string to_text(T value) {
  std::array<char, 48> buffer;
  const int n = std::snprintf(buffer.data(), buffer.size(), "%.6g", static_cast<double>(value));
  return std::string(buffer.data(), static_cast<size_t>(n));
}

// Replaces each "{}" of `pattern` by the next argument; surplus arguments are ignored, missing ones stay
// "{}".
template <typename... Args>
std::string strf(std::string_view pattern, const Args&... args) {
  const std::array<std::string, sizeof...(Args) + 1> texts = {to_text(args)..., std::string()};
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '{' && i + 1 < pattern.size() && pattern[i + 1] == '}' && next < sizeof...(Args)) {
      out += texts[next++];
      ++i;
    } else {
      out += pattern[i];
    }
  }
  return out;
}

}  // namespace linnet
