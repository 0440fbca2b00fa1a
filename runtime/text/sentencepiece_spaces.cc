#include "runtime/text/sentencepiece_spaces.h"

#include <utility>

#include "runtime/text/utf8.h"

namespace linnet::text {

SentencePieceNormalizer::SentencePieceNormalizer(CharsMap map, std::vector<std::string> symbols,
                                                 Options options)
    : map_(std::move(map)),
      symbols_(std::move(symbols)),
      index_(symbols_, std::vector<bool>(symbols_.size(), true)),
      options_(options) {}

CharsMap::Match SentencePieceNormalizer::prefix(std::string_view text) const {
  size_t length = 0;
  if (!index_.empty() && index_.longest_prefix(text, length) >= 0) return {length, text.substr(0, length)};
  if (const CharsMap::Match match = map_.longest(text); match.length) return match;
  length = utf8_length(text[0]);
  return {length, text.substr(0, length)};
}

std::string SentencePieceNormalizer::apply(std::string_view text, bool begins) const {
  const std::string_view space = options_.escape_whitespaces ? kBlock : std::string_view(" ");
  std::string out;
  if (options_.remove_extra_whitespaces && begins)
    while (!text.empty()) {
      const CharsMap::Match match = prefix(text);
      if (match.replacement != " ") break;
      text.remove_prefix(match.length);
    }
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2 + 3);
  if (options_.add_dummy_prefix && begins) out += space;
  bool after_space = options_.remove_extra_whitespaces && begins;
  while (!text.empty()) {
    const CharsMap::Match match = prefix(text);
    std::string_view part = match.replacement;
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ')
        out += space;
      else
        out += c;
    }
    if (!part.empty()) after_space = part.ends_with(' ');
    if (!options_.remove_extra_whitespaces) after_space = false;
    text.remove_prefix(match.length);
  }
  // A U+2581 that stood in the text counts as a space here, and so does the dummy prefix.
  if (options_.remove_extra_whitespaces)
    while (out.ends_with(space)) out.resize(out.size() - space.size());
  return out;
}

}  // namespace linnet::text
