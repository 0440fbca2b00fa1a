// Cuts text along regular expressions, as Split of Hugging Face tokenizers does.
#pragma once

#include <memory>
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

  // The parts of `text` (valid UTF-8), in order, none of them empty; views into it. Errors: kUnsupported when
  // a pattern exceeds its bound on backtracking.
  Result<void> split(std::string_view text, std::vector<std::string_view>& parts) const;

 private:
  struct Step;
  PreTokenizer();
  std::vector<Step> steps_;
};

}  // namespace linnet::text
