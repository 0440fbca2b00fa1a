// Regular expressions of tokenizers: Oniguruma's syntax and rules, run by PCRE2.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "linnet/result.h"

namespace linnet::text {

class Regex {
 public:
  // `what` names the pattern in messages. Errors: kInvalidFile with the place where it does not compile.
  static Result<Regex> compile(std::string_view pattern, const std::string& what);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // Calls `found(begin, end)` for every match in `text` (valid UTF-8), as Oniguruma's search from match to
  // match gives them: a match may be empty, but not right behind another one. Errors: kUnsupported when the
  // pattern exceeds its bound on backtracking; kOutOfMemory.
  Result<void> each(std::string_view text, const std::function<void(size_t, size_t)>& found) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// `literal` as a pattern that matches it alone, and back: nothing if a pattern is no such literal.
std::string quoted_pattern(std::string_view literal);
bool literal_of_pattern(std::string_view pattern, std::string& literal);

}  // namespace linnet::text
