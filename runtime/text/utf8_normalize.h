// Unicode normalisation by name, and what sentencepiece does to a text beside it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "linnet/result.h"

namespace linnet::text {

class Normalizer {
 public:
  // "" and "identity", "nfc", "nfd", "nfkc", "nfkd", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf", "nmt" (its rule
  // alone), "lower" (each character by itself). Errors: kUnsupported.
  static Result<Normalizer> create(std::string_view name);

  // Whether apply() can change anything in any text.
  bool identity() const { return !decompose_ && !lower_ && !nmt_; }
  // Whether the first character of a text (not empty) is one that goes.
  bool drops(std::string_view text) const;
  // `text` is valid UTF-8. O(n log n), whatever the runs of combining marks in it.
  std::string apply(std::string_view text) const;

 private:
  std::string character_by_character(std::string_view text) const;
  bool lower_ = false, decompose_ = false, compose_ = false, compatibility_ = false, fold_case_ = false,
       nmt_ = false;
};

}  // namespace linnet::text
