#include "runtime/text/pattern.h"

#include <optional>
#include <vector>

#include "runtime/core/strings.h"

namespace linnet::text {
namespace {

constexpr std::string_view kSpaces = R"(\t-\r\x20\x85\p{Z})";
constexpr std::string_view kWords =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";
constexpr int kDeepest = 16;  // classes in classes; more is no tokenizer's

// \p{Han} at `at`, rewritten; moves `at` behind it.
std::string_view han(std::string_view pattern, size_t& at) {
  const std::string_view rest = pattern.substr(at);
  if (!rest.starts_with("\\p{Han}") && !rest.starts_with("\\P{Han}")) return {};
  at += 7;
  return rest[1] == 'p' ? R"(\p{sc:Han})" : R"(\P{sc:Han})";
}

// The characters of one side of an intersection: a PCRE2 class's inside, and expressions for one character
// that no class can hold.
struct Union {
  std::string inside;
  std::vector<std::string> others;

  std::string written() const {
    std::string out = inside.empty() ? "" : inside[0] == '^' ? "[\\" + inside + "]" : "[" + inside + "]";
    if (others.empty()) return out.empty() ? "(?!)" : out;
    for (const std::string& other : others) out += (out.empty() ? "" : "|") + other;
    return "(?:" + out + ")";
  }
};

// The class at `at`, as an expression for one character; moves `at` behind it.
std::optional<std::string> read_class(std::string_view pattern, size_t& at, int depth) {
  if (depth > kDeepest) return std::nullopt;
  ++at;  // the bracket
  const bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  std::vector<Union> sides(1);
  if (at < pattern.size() && pattern[at] == ']') sides.back().inside += pattern[at++];  // a literal bracket
  while (at < pattern.size() && pattern[at] != ']') {
    Union& side = sides.back();
    const std::string_view rest = pattern.substr(at);
    if (rest.starts_with("&&")) {
      sides.emplace_back();
      at += 2;
    } else if (rest[0] == '[' && !rest.starts_with("[:")) {
      auto inner = read_class(pattern, at, depth + 1);
      if (!inner) return std::nullopt;
      side.others.push_back(std::move(*inner));
    } else if (rest[0] == '[') {  // [:alpha:]
      const size_t end = rest.find(":]");
      if (end == rest.npos) return std::nullopt;
      side.inside += rest.substr(0, end + 2);
      at += end + 2;
    } else if (rest[0] == '\\' && rest.size() > 1) {
      if (const std::string_view script = han(pattern, at); !script.empty()) {
        side.inside += script;
        continue;
      }
      const char c = rest[1];
      if (c == 's' || c == 'w')
        side.inside += c == 's' ? kSpaces : kWords;
      else if (c == 'S' || c == 'W')
        side.others.push_back(strf("[^{}]", c == 'S' ? kSpaces : kWords));
      else
        side.inside += {'\\', c};
      at += 2;
    } else {
      side.inside += rest[0];
      ++at;
    }
  }
  if (at == pattern.size()) return std::nullopt;
  ++at;
  if (sides.size() == 1 && sides[0].others.empty())
    return strf("[{}{}]", negated ? "^" : "", sides[0].inside);
  std::string both;
  for (size_t i = 0; i + 1 < sides.size(); ++i) both += "(?=" + sides[i].written() + ")";
  both += sides.back().written();
  return negated ? "(?:(?!" + both + ")(?s:.))" : "(?:" + both + ")";
}

}  // namespace

std::string portable_pattern(std::string_view pattern) {
  std::string out;
  for (size_t at = 0; at < pattern.size();) {
    if (pattern[at] == '[') {
      const auto written = read_class(pattern, at, 0);
      if (!written) return out += "[";  // with the missing bracket that PCRE2 tells of
      out += *written;
    } else if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      if (const std::string_view script = han(pattern, at); !script.empty()) {
        out += script;
        continue;
      }
      const char c = pattern[at + 1];
      if (c == 's' || c == 'w')
        out += strf("[{}]", c == 's' ? kSpaces : kWords);
      else if (c == 'S' || c == 'W')
        out += strf("[^{}]", c == 'S' ? kSpaces : kWords);
      else
        out += {'\\', c};
      at += 2;
    } else {
      out += pattern[at++];
    }
  }
  return out;
}

}  // namespace linnet::text
