#include "runtime/text/template_strings.h"

#include <algorithm>

namespace linnet::text::jinja {

std::string stripped(const std::string& s, const std::string& characters, bool left, bool right) {
  const size_t begin = left ? s.find_first_not_of(characters) : 0;
  if (begin == std::string::npos || s.empty()) return {};
  const size_t end = right ? s.find_last_not_of(characters) : s.size() - 1;
  return end == std::string::npos ? std::string() : s.substr(begin, end - begin + 1);
}

std::string cased(std::string s, bool upper) {
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

int64_t most_parts(const std::string& s, const Value* by) {
  if (by && by->is_string() && !by->string().empty())
    return 1 + static_cast<int64_t>(std::ranges::count(s, by->string()[0]));
  return 1 + static_cast<int64_t>(s.size() / 2);
}

}  // namespace linnet::text::jinja
