// Patterns of Oniguruma's kind as PCRE2 has to read them.
#include <doctest/doctest.h>

#include "runtime/text/pattern.h"
#include "runtime/text/pretokenizer.h"

using namespace linnet::text;

namespace {

// The matches of `pattern` in `text`, joined by bars.
std::string matches(const char* pattern, const std::string& text) {
  CAPTURE(pattern);
  const PreTokenizerStep step = {pattern, true, SplitBehavior::kRemoved};
  const auto cutter = PreTokenizer::create(std::span(&step, 1));
  REQUIRE_MESSAGE(cutter, (cutter ? "" : cutter.error().message));
  PreTokenizer::Parts parts;
  REQUIRE(cutter->split(text, true, parts));
  std::string out;
  for (const std::string_view part : parts.views) out += (out.empty() ? "" : "|") + std::string(part);
  return out;
}

}  // namespace

TEST_CASE("what PCRE2 reads as Oniguruma does is left alone") {
  for (const char* same : {R"(\p{L}+|\p{N}{1,3})", R"((?i:'s|'t)| ?[^\r\n\p{L}]+)", R"([]x])", R"([^]x])",
                           R"(\[a\]\\)", "(", "a{2", R"(x*+a??b{2,3}?)"})
    CHECK(portable_pattern(same) == same);
}

TEST_CASE("complements, classes and intersections in a class") {
  CHECK(matches(R"([\W])", "a-_ b") == "-| ");
  CHECK(matches(R"([^\W\d])", "a1_\xC3\xA9 2") == "a|_|\xC3\xA9");
  CHECK(matches(R"([^\W\S]+)", "a b") == "");
  CHECK(matches(R"([\S\n]+)", "a\nb c") == "a\nb|c");
  CHECK(matches(R"([^\S\n]+)", "a \t\n b") == " \t| ");
  CHECK(matches(R"([a-f[x-z]]+)", "bxqzc") == "bx|zc");
  CHECK(matches(R"([a-z&&[^aeiou]]+)", "strength idea") == "str|ngth|d");
  CHECK(matches(R"([\w&&\p{L}&&[^\p{Han}]]+)", "ab1\xE6\xBC\xA2_c") == "ab|c");
  CHECK(matches(R"([^a-z&&[^aeiou]]+)", "abc-e") == "a|-e");
  CHECK(matches(R"([\^&]+)", "a^&b") == "^&");
  CHECK(matches(R"(\p{Han}+)", "\xE6\xBC\xA2\xE3\x80\x81\xE5\xAD\x97") == "\xE6\xBC\xA2|\xE5\xAD\x97");
}

TEST_CASE("quantifiers, options and escapes of Ruby's syntax") {
  CHECK(matches("a{,2}", "aaaaa") == "aa|aa|a");
  CHECK(matches("(?:ab){2}?", "ababab") == "abab");
  CHECK(matches("a{2,3}?", "aaaaa") == "aa|aa");
  CHECK(matches("a{1,2}+b", "aaaab") == "aaaab");
  CHECK(matches("a{1,2}+a", "aaaaa") == "aaaaa");  // not possessive
  CHECK(matches("a**b", "aab") == "aab");
  CHECK(matches("(?m:.+)", "a\nb") == "a\nb");
  CHECK(matches("^.+$", "a\nb") == "a|b");
  CHECK(matches("a(?i)b|c", "aB aC C") == "aB|aC");
  CHECK(matches(R"(\h+)", "12fgAZ") == "12f|A");
  CHECK(matches(R"(\p{^Lu}+)", "aBc") == "a|c");
  CHECK(matches(R"(\p{Uppercase_Letter}[\p{^digit}])", "Ab1A2") == "Ab");
  CHECK(matches(R"([[:punct:]]+)", "a+b, c") == "+|,");
  CHECK(matches(R"(\p{Punct}+)", "a+b, c") == ",");
  CHECK(matches(R"(\w+)", "½ x") == "½|x");
  CHECK(matches(R"([\w]+)", "½ x") == "x");
  CHECK(matches(R"([[:^alpha:]]+)", "a1b ") == "1| ");
  CHECK(matches(R"(\bé\B.)", "é éa") == "éa");
  CHECK(matches("(?i:ss)", "SS \xC3\x9F s\xC5\xBF") == "SS|\xC3\x9F|s\xC5\xBF");
  CHECK(matches(R"(\u0061)", "a") == "a");
  CHECK(matches("(?x: a b # c\n c)", "abc") == "abc");
}

TEST_CASE("places cut, and count as matches") {
  const auto cut = [](const char* pattern, SplitBehavior behavior, const std::string& text) {
    const PreTokenizerStep step = {pattern, false, behavior};
    const auto cutter = PreTokenizer::create(std::span(&step, 1));
    REQUIRE(cutter);
    PreTokenizer::Parts parts;
    REQUIRE(cutter->split(text, true, parts));
    std::string out;
    for (const std::string_view part : parts.views) out += (out.empty() ? "" : "|") + std::string(part);
    return out;
  };
  CHECK(cut(R"((?=(\d{3})+(?!\d)))", SplitBehavior::kIsolated, "1234567") == "1|234|567");
  CHECK(cut(R"((?=(\d{3})+(?!\d)))", SplitBehavior::kRemoved, "1234567") == "1|234|567");
  CHECK(cut("x*", SplitBehavior::kIsolated, "axxb") == "a|xx|b");
  CHECK(cut("(?<=a)|(?=c)", SplitBehavior::kMergedWithPrevious, "abca") == "a|b|ca");
}

TEST_CASE("patterns that are none are refused with the step and the place") {
  for (const char* bad : {"[a", "[a[b]", "(", "[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]", "\\"}) {
    CAPTURE(bad);
    const PreTokenizerStep steps[] = {{"x", false, SplitBehavior::kIsolated},
                                      {bad, false, SplitBehavior::kIsolated}};
    const auto cutter = PreTokenizer::create(steps);
    REQUIRE_FALSE(cutter);
    CHECK(cutter.error().code == linnet::ErrorCode::kInvalidFile);
    CHECK(cutter.error().message.find("step 1") != std::string::npos);
  }
}

TEST_CASE("a pattern that walks back without end gives up") {
  const PreTokenizerStep step = {R"((a+)+\d)", false, SplitBehavior::kIsolated};
  const auto cutter = PreTokenizer::create(std::span(&step, 1));
  REQUIRE(cutter);
  PreTokenizer::Parts parts;
  const auto cut = cutter->split(std::string(200, 'a') + "b", true, parts);
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == linnet::ErrorCode::kUnsupported);
}
