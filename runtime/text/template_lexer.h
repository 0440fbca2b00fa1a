#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace linnet::text::jinja {

enum class TokenType {
  kText,
  kOutputBegin,
  kOutputEnd,
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
};

// Throws Failure. Whitespace control, trim_blocks and lstrip_blocks have been applied to the text tokens.
std::vector<Token> tokenize(std::string_view source);

}  // namespace linnet::text::jinja
