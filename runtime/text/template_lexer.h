#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace linnet::text::jinja {

enum class TokenType {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenType type;
  std::string text;
  int line = 0;
  int64_t integer = 0;
  double real = 0;
};

// Throws Failure. As Jinja with trim_blocks and lstrip_blocks: line ends are "\n", one at the end of the
// template is dropped, whitespace control has been applied to the data tokens, {% raw %} is data.
std::vector<Token> tokenize(std::string_view source);

}  // namespace linnet::text::jinja
