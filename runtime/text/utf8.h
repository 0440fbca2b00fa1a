// UTF-8: checking, walking, and putting a stream of token bytes back together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace linnet::text {

// Offset of the first byte that belongs to no character (overlong forms, surrogates and values over U+10FFFF
// included); for an unfinished last character, where it starts.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// Bytes of the character that `lead` starts in valid UTF-8.
constexpr size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character at `at` of valid UTF-8; moves `at` behind it.
char32_t next_char(std::string_view text, size_t& at);
// The character that ends before `at`; moves `at` to its start.
char32_t previous_char(std::string_view text, size_t& at);
void append_utf8(std::string& out, char32_t c);
// The lower case of one character by itself: one character, but for U+0130, which has two.
void append_lower(std::string& out, char32_t c);

// Every `from` (not empty) becomes `to`.
void replace_all(std::string& text, std::string_view from, std::string_view to);

// Unicode's White_Space, and the characters of \w (letters, marks, decimal digits, connectors).
bool is_space(char32_t c);
bool is_word(char32_t c);

// Bytes in, whole characters out: keeps an unfinished character back until its rest arrives. What cannot
// become a character any more comes out as U+FFFD, one for each maximal subpart (Unicode 3.9, table 3-8), as
// browsers and Python do.
class Utf8Stream {
 public:
  // The characters that are complete now; valid until the next call.
  std::string_view push(std::string_view bytes);
  // What was kept back, as U+FFFD; the stream is then empty again.
  std::string_view finish();

 private:
  std::string kept_, out_;
};

}  // namespace linnet::text
