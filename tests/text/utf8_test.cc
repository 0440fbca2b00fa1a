// UTF-8 that arrives in pieces, and the checks of whole texts.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "runtime/text/utf8.h"

using namespace linnet::text;

namespace {

std::string streamed(const std::vector<std::string>& pieces) {
  Utf8Stream stream;
  std::string out;
  for (const std::string& piece : pieces) {
    out += stream.push(piece);
    CHECK_FALSE(find_invalid_utf8(out));
  }
  out += stream.finish();
  return out;
}

// Each of the ways to cut a text in two and in bytes gives `expected`.
void every_cut(const std::string& text, const std::string& expected) {
  CAPTURE(text);
  for (size_t cut = 0; cut <= text.size(); ++cut)
    CHECK(streamed({text.substr(0, cut), text.substr(cut)}) == expected);
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  CHECK(streamed(bytes) == expected);
}

constexpr const char* kBad = "\xEF\xBF\xBD";

}  // namespace

TEST_CASE("characters come out whole, wherever the pieces are cut") {
  every_cut("", "");
  every_cut("plain", "plain");
  const std::string mixed = "a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80z";
  every_cut(mixed, mixed);
  Utf8Stream stream;
  CHECK(stream.push("\xF0\x9F\x98") == "");
  CHECK(stream.push("\x80!") == "\xF0\x9F\x98\x80!");
  CHECK(stream.finish() == "");
}

TEST_CASE("what is no character is replaced once for each maximal part") {
  const std::string bad = kBad;
  every_cut("\xFF", bad);
  every_cut("a\x80\x80z", "a" + bad + bad + "z");
  every_cut("\xC3(", bad + "(");
  every_cut("\xE6\xBC", bad);                                                  // unfinished at the end
  every_cut("\xE6\xBC\xC3\xA9", bad + "\xC3\xA9");                             // unfinished before another
  every_cut("\xC0\xAF", bad + bad);                                            // overlong
  every_cut("\xE0\x80\x80", bad + bad + bad);                                  // overlong
  every_cut("\xED\xA0\x80", bad + bad + bad);                                  // a surrogate
  every_cut("\xF4\x90\x80\x80", bad + bad + bad + bad);                        // over U+10FFFF
  every_cut("\xF1\x80\x80\xE1\x80\xC2\x62\x80", bad + bad + bad + "b" + bad);  // table 3-8 of Unicode
}

TEST_CASE("any bytes in any pieces become the same valid text") {
  std::mt19937 random(5);
  constexpr const char kLikely[] =
      "\x80\xBF\xC3\xE2\xED\xA0\xF0\x9F\xF4\x90"
      "ab";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (auto n = random() % 12; n > 0; --n)
      text += random() % 4 ? kLikely[random() % (sizeof(kLikely) - 1)] : static_cast<char>(random() % 256);
    const std::string whole = streamed({text});
    CHECK_FALSE(find_invalid_utf8(whole));
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 3;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    CHECK(streamed(pieces) == whole);
    if (!find_invalid_utf8(text)) CHECK(whole == text);
  }
}

TEST_CASE("the first byte that belongs to no character is found") {
  CHECK_FALSE(find_invalid_utf8("eight bytes and \xC3\xA9 more, all of them right"));
  CHECK(find_invalid_utf8("eight bytes\xFF") == 11);
  CHECK(find_invalid_utf8("12345678\xC3") == 8);
  CHECK(find_invalid_utf8("\xED\xBF\xBF") == 0);
  CHECK(find_invalid_utf8("a\xF8\x88\x80\x80\x80") == 1);
}

TEST_CASE("characters are read forwards and backwards, and written") {
  for (const char32_t c :
       {U'\0', U'a', U'\x7F', U'\x80', U'\x7FF', U'\x800', U'\xFFFF', U'\x10000', U'\x10FFFF'}) {
    std::string text = "<";
    append_utf8(text, c);
    size_t at = 1;
    CHECK(next_char(text, at) == c);
    CHECK(at == text.size());
    CHECK(previous_char(text, at) == c);
    CHECK(at == 1);
    CHECK_FALSE(find_invalid_utf8(text));
  }
}

TEST_CASE("spaces and word characters are Unicode's") {
  for (const char32_t c : {U' ', U'\t', U'\v', U'\x85', U'\xA0', U'\x1680', U'\x2028', U'\x3000'})
    CHECK(is_space(c));
  for (const char32_t c : {U'a', U'\x180E', U'\x200B', U'\xFEFF', U'\x1F'}) CHECK_FALSE(is_space(c));
  for (const char32_t c : {U'a', U'_', U'\x301', U'\x661', U'\x6F22', U'\x2160', U'\x24B6', U'\x200D'})
    CHECK(is_word(c));
  for (const char32_t c : {U' ', U'-', U'\xB2', U'\x2014', U'\x1F600'}) CHECK_FALSE(is_word(c));
}
