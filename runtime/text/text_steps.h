// The normalizers of Hugging Face tokenizers, in a row.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/charsmap.h"
#include "runtime/text/regex.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8_normalize.h"

namespace linnet::text {

class NormalizerChain {
 public:
  NormalizerChain() = default;
  // `charsmap` is what Charsmap steps use; it must outlive the chain. Errors: kInvalidFile, kUnsupported,
  // naming the step.
  static Result<NormalizerChain> create(std::span<const TextStep> steps, const CharsMap& charsmap);

  bool identity() const { return steps_.empty(); }
  // `text` is valid UTF-8. `begins`, where given, becomes whether the result still starts where the text
  // does: not when its first character was taken away. Errors: those of Regex::each.
  Result<std::string> apply(std::string_view text, bool* begins = nullptr) const;

 private:
  struct Step {
    TextStep what;
    Normalizer form;             // Unicode
    std::optional<Regex> regex;  // Replace, where `literal` is empty
    std::string literal;
  };
  std::vector<Step> steps_;
  const CharsMap* charsmap_ = nullptr;
};

// What tokens print, by the decoders of Hugging Face tokenizers, one token at a time.
class TokenPrinter {
 public:
  TokenPrinter() = default;
  // Errors: kInvalidFile; kUnsupported for an order of steps in which a token's text depends on others'.
  static Result<TokenPrinter> create(std::span<const TextStep> steps);

  // The bytes of a token at a place in a text. `plain`: printed as it is.
  std::string print(std::string_view piece, bool plain, bool first, bool last) const;
  // Whether the first or the last token prints differently.
  bool depends_on_place() const { return depends_on_place_; }
  // What is taken off a whole text at its ends.
  void trim(std::string& text) const;

 private:
  std::vector<TextStep> steps_;  // of each token
  std::optional<TextStep> trim_;
  bool depends_on_place_ = false;
};

// The byte of a piece like <0x0A>; -1: it is not of that form.
int byte_of_piece(std::string_view piece);

}  // namespace linnet::text
