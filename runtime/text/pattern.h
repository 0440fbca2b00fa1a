// Regular expressions of tokenizers, from Oniguruma's syntax into PCRE2's.
#pragma once

#include <string>
#include <string_view>

namespace linnet::text {

// The pattern with \s, \S, \w, \W, \p{Han} and what a character class can hold in Oniguruma alone (classes,
// intersections with &&) written out so that PCRE2 reads them as Oniguruma does: PCRE2's \s holds U+180E, its
// \w no marks, its \p{Han} all script extensions, and a bracket or && in a class is itself. A pattern that is
// no pattern stays none: PCRE2 then says where.
std::string portable_pattern(std::string_view pattern);

}  // namespace linnet::text
