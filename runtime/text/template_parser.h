// The two halves of the parser: expressions, and the statements around them.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/template_ast.h"
#include "runtime/text/template_lexer.h"

namespace linnet::text::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, const void* stack)
      : tokens_(std::move(tokens)), stack_(stack) {}

 protected:
  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& t = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return t;
  }
  bool is_op(std::string_view op, size_t ahead = 0) const {
    return peek(ahead).type == TokenType::kOperator && peek(ahead).text == op;
  }
  bool is_name(std::string_view name, size_t ahead = 0) const {
    return peek(ahead).type == TokenType::kName && peek(ahead).text == name;
  }
  bool accept_op(std::string_view op) { return is_op(op) && (take(), true); }
  bool accept_name(std::string_view name) { return is_name(name) && (take(), true); }
  void expect_op(std::string_view op);
  void expect(TokenType type, const char* what);
  std::string name();
  [[noreturn]] void refuse(const std::string& message) const { throw Failure{message, peek().line}; }
  [[noreturn]] void unexpected(const std::string& wanted) const;

  ExprPtr expression(bool conditional = true);
  // Expressions with commas between them make a tuple. `end`: a name that ends it beside the tags' ends.
  ExprPtr tuple(bool conditional = true, std::string_view end = {}, bool parenthesised = false);
  ExprPtr target(std::string_view end = {}, bool attributes = false);
  ExprPtr store(std::string name, int line);
  ExprPtr filters_after(ExprPtr e);  // "| name(...)", any number of times
  ExprPtr named_filter(ExprPtr e);   // "name(...)"
  std::unique_ptr<Expr> make(ExprKind kind, int line, std::string text = {}) const;
  static ExprPtr add(ExprPtr parent, ExprPtr child);  // counts the depth
  bool soft_ = false;  // directly in an if: what is not known may never be asked for

 private:
  ExprPtr operators(int level);
  ExprPtr comparison(ExprPtr first);
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr postfix(ExprPtr e);
  ExprPtr filter_expression(ExprPtr e);
  ExprPtr subscript(ExprPtr e);
  ExprPtr subscribed(bool& slice, ExprPtr (&bounds)[3]);
  ExprPtr test(ExprPtr e);
  ExprPtr list_literal();
  ExprPtr dict_literal();
  ExprPtr constant(Value value, int line) const;
  void arguments(ExprPtr& call);
  std::string dotted_name();
  void check_call(const Expr& call) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;

 protected:
  StackGuard stack_;
};

}  // namespace linnet::text::jinja
