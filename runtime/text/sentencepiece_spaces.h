// What sentencepiece does to a text before it cuts it: its character map, user-defined symbols kept as they
// are, extra spaces, the dummy prefix, U+2581 for spaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/charsmap.h"
#include "runtime/text/tokenizer_pieces.h"

namespace linnet::text {

inline constexpr std::string_view kBlock = "\xE2\x96\x81";  // U+2581, SentencePiece's space

class SentencePieceNormalizer {
 public:
  struct Options {
    bool add_dummy_prefix = false;
    bool remove_extra_whitespaces = false;
    bool escape_whitespaces = false;
  };
  SentencePieceNormalizer() = default;
  SentencePieceNormalizer(CharsMap map, std::vector<std::string> symbols, Options options);

  // As sentencepiece's Normalizer::Normalize; `text` is valid UTF-8. Where the text does not begin a text
  // (`begins` is false), it gets no dummy prefix and keeps the first of its leading spaces.
  std::string apply(std::string_view text, bool begins = true) const;

 private:
  // What the text begins with, and what stands for it.
  CharsMap::Match prefix(std::string_view text) const;

  CharsMap map_;
  std::vector<std::string> symbols_;
  PrefixIndex index_;
  Options options_;
};

}  // namespace linnet::text
