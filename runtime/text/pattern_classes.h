// Sets of characters as Oniguruma has them, in PCRE2's words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace linnet::text {

struct CharacterSet {
  std::string inside;  // of a PCRE2 class
  bool negated = false;

  // One escape, which needs no class around it: \d or \p{...}.
  bool single() const {
    return inside == "\\d" || (inside.starts_with("\\p{") && inside.find('}') + 1 == inside.size());
  }
  // Outside of a class.
  std::string written() const {
    if (!single()) return (negated ? "[^" : "[") + inside + "]";
    return negated ? (inside == "\\d" ? "\\D" : "\\P" + inside.substr(2)) : inside;
  }
};

// [:name:] and \p{name}; nothing for a name that is no POSIX class.
std::optional<CharacterSet> posix_class(std::string_view name);
// An escape at `at` that stands for a set: \s, \w, \d, \h, their complements, \p{...}; moves `at` behind it.
// `alone`: outside of a class, where Oniguruma's words have six superscripts and fractions of Latin-1 more.
std::optional<CharacterSet> escaped_class(std::string_view pattern, size_t& at, bool alone);
// Any other escape at `at`; moves `at` behind it.
std::string escaped_character(std::string_view pattern, size_t& at);
// \b, or \B.
std::string word_boundary(bool none);

}  // namespace linnet::text
