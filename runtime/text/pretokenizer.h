// Cuts text before BPE, and changes its parts, as the pre-tokenizers of Hugging Face tokenizers do.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace linnet::text {

class PreTokenizer {
 public:
  // Errors: kInvalidFile with the step, the pattern and the place where it does not compile.
  static Result<PreTokenizer> create(std::span<const PreTokenizerStep> steps);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // The parts of a text, in order, none of them empty: views into it, or into `changed`.
  struct Parts {
    std::vector<std::string_view> views;
    std::deque<std::string> changed;
  };
  // `text` is valid UTF-8; `first`: the whole text begins with it. Errors: kUnsupported when a pattern
  // exceeds its bound on backtracking.
  Result<void> split(std::string_view text, bool first, Parts& parts) const;

 private:
  struct Step;
  PreTokenizer();
  std::vector<Step> steps_;
};

// Bytes as GPT-2 writes them in printable characters, and back; false if a character stands for no byte.
std::string byte_level_text(std::string_view bytes);
bool bytes_of_byte_level(std::string_view text, std::string& bytes);

}  // namespace linnet::text
