// Regular expressions of tokenizers, from Oniguruma's Ruby syntax into PCRE2's.
#pragma once

#include <string>
#include <string_view>

namespace linnet::text {

// The pattern written so that PCRE2 (UTF, UCP, multi-line) reads it as Oniguruma does. Written out: \s, \w,
// \h, \b and POSIX classes by Oniguruma's sets; properties by their long names, negated, and scripts without
// PCRE2's extensions; classes in classes and intersections (&&); {,n}, {n}? and {n,m}+, which are other
// quantifiers in PCRE2; quantifiers of quantifiers; (?m), which is PCRE2's (?s); options in the middle of a
// group; \uHHHH and \v; under (?i), letters that fold with a ligature. A pattern that is no pattern stays
// none: PCRE2 then says where.
std::string portable_pattern(std::string_view pattern);

}  // namespace linnet::text
