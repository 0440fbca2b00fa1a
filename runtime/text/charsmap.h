// SentencePiece's precompiled character map, as tokenizer.model and the Precompiled normaliser of
// tokenizer.json carry it: a double-array trie (darts-clone) from texts to offsets into a block of
// NUL-terminated replacements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/result.h"

namespace linnet::text {

class CharsMap {
 public:
  CharsMap() = default;
  // `bytes`: size of the trie as u32, the trie, the replacements. Empty: a map that changes nothing. Errors:
  // kInvalidFile.
  static Result<CharsMap> create(std::span<const uint8_t> bytes);

  bool empty() const { return units_.empty(); }

  struct Match {
    size_t length = 0;  // bytes of the text that are replaced; 0: none
    std::string_view replacement;
  };
  // The longest or the shortest entry that valid UTF-8 text begins with. Entries that end inside a character
  // or are replaced by no valid UTF-8, which only a damaged map has, are passed over.
  Match longest(std::string_view text) const { return find(text, false); }
  Match shortest(std::string_view text) const { return find(text, true); }

  // As Hugging Face tokenizers applies it: a grapheme of at most five bytes becomes the replacement of the
  // shortest entry it begins with, whatever follows in it; others go character by character. sentencepiece
  // itself takes the longest entry at each place.
  std::string apply_by_grapheme(std::string_view text) const;

 private:
  Match find(std::string_view text, bool shortest) const;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace linnet::text
