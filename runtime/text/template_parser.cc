#include <cstdlib>
#include <set>

#include "runtime/text/template_ast.h"
#include "runtime/text/template_lexer.h"

namespace linnet::text::jinja {
namespace {

constexpr int kMostDepth = 150;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Block run() {
    Block body = block({});
    if (peek().type != TokenType::kEnd) refuse("an unexpected end tag");
    return body;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { throw Failure{what, tokens_[at_].line}; }
  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_op(std::string_view op) const { return peek().type == TokenType::kOperator && peek().text == op; }
  bool is_name(std::string_view name, size_t ahead = 0) const {
    return peek(ahead).type == TokenType::kName && peek(ahead).text == name;
  }
  bool accept_op(std::string_view op) { return is_op(op) && (take(), true); }
  bool accept_name(std::string_view name) { return is_name(name) && (take(), true); }
  void expect_op(std::string_view op) {
    if (!accept_op(op)) refuse("expected '" + std::string(op) + "', found '" + peek().text + "'");
  }
  void expect(TokenType type, const char* what) {
    if (peek().type != type) refuse(std::string("expected ") + what + ", found '" + peek().text + "'");
    take();
  }
  std::string name() {
    if (peek().type != TokenType::kName) refuse("expected a name, found '" + peek().text + "'");
    return take().text;
  }

  struct Nested {
    explicit Nested(Parser& p) : parser(p) {
      if (++parser.depth_ > kMostDepth)
        throw Failure{"it is nested too deeply", parser.peek().line, false, true};
    }
    ~Nested() { --parser.depth_; }
    Parser& parser;
  };

  // ---- statements ----
  // Up to a block tag whose name is one of `ends`; that name is left as the next token.
  Block block(const std::set<std::string>& ends) {
    const Nested nested(*this);
    Block body;
    while (true) {
      const Token token = peek();
      if (token.type == TokenType::kEnd) {
        if (!ends.empty()) refuse("'" + *ends.begin() + "' is missing");
        return body;
      }
      take();
      if (token.type == TokenType::kText) {
        auto s = make(StmtKind::kText, token.line);
        s->text = token.text;
        body.push_back(std::move(s));
      } else if (token.type == TokenType::kOutputBegin) {
        auto s = make(StmtKind::kOutput, token.line);
        s->expr = expression(true);
        expect(TokenType::kOutputEnd, "'}}'");
        body.push_back(std::move(s));
      } else {
        if (peek().type == TokenType::kName && ends.contains(peek().text)) return body;
        if (is_name("endif") || is_name("endfor") || is_name("else") || is_name("elif"))
          refuse("an unexpected '" + peek().text + "'");
        body.push_back(statement());
      }
    }
  }

  static std::unique_ptr<Stmt> make(StmtKind kind, int line) {
    auto s = std::make_unique<Stmt>();
    s->kind = kind;
    s->line = line;
    return s;
  }
  void end_tag(const char* which) {
    if (!accept_name(which)) refuse(std::string("expected '") + which + "'");
    expect(TokenType::kBlockEnd, "'%}'");
  }

  std::unique_ptr<Stmt> statement() {
    const int line = peek().line;
    const std::string keyword = name();
    if (keyword == "for") return for_statement(line);
    if (keyword == "if") return if_statement(line);
    if (keyword == "set") return set_statement(line);
    if (keyword == "macro") return macro_statement(line);
    if (keyword == "break" || keyword == "continue") {
      expect(TokenType::kBlockEnd, "'%}'");
      return make(keyword == "break" ? StmtKind::kBreak : StmtKind::kContinue, line);
    }
    if (keyword == "generation") {
      auto s = make(StmtKind::kScope, line);
      expect(TokenType::kBlockEnd, "'%}'");
      s->body = block({"endgeneration"});
      end_tag("endgeneration");
      return s;
    }
    if (keyword == "filter") {
      auto s = make(StmtKind::kFilterBlock, line);
      auto subject = std::make_unique<Expr>();
      subject->kind = ExprKind::kName;
      subject->text = "__body__";
      subject->line = line;
      s->expr = filters_after(std::move(subject), true);
      expect(TokenType::kBlockEnd, "'%}'");
      s->body = block({"endfilter"});
      end_tag("endfilter");
      return s;
    }
    throw Failure{"the statement '" + keyword + "' is not supported", line};
  }

  std::unique_ptr<Stmt> for_statement(int line) {
    auto s = make(StmtKind::kFor, line);
    const bool parenthesised = accept_op("(");
    do s->names.push_back(name());
    while (accept_op(","));
    if (parenthesised) expect_op(")");
    if (!accept_name("in")) refuse("expected 'in'");
    s->expr = or_expression();  // a conditional would swallow the loop's own 'if'
    if (accept_name("if")) s->condition = expression();
    if (is_name("recursive")) refuse("recursive loops are not supported");
    expect(TokenType::kBlockEnd, "'%}'");
    s->body = block({"endfor", "else"});
    if (accept_name("else")) {
      expect(TokenType::kBlockEnd, "'%}'");
      s->otherwise = block({"endfor"});
    }
    end_tag("endfor");
    return s;
  }

  std::unique_ptr<Stmt> if_statement(int line) {
    auto s = make(StmtKind::kIf, line);
    ExprPtr condition = expression();
    while (true) {
      expect(TokenType::kBlockEnd, "'%}'");
      const bool last = condition == nullptr;
      Block body = last ? block({"endif"}) : block({"elif", "else", "endif"});
      s->branches.emplace_back(std::move(condition), std::move(body));
      if (accept_name("elif")) {
        condition = expression();
      } else if (accept_name("else")) {
        condition = nullptr;
      } else {
        end_tag("endif");
        return s;
      }
    }
  }

  std::unique_ptr<Stmt> set_statement(int line) {
    auto s = make(StmtKind::kSet, line);
    do {
      std::string target = name();
      if (accept_op(".")) target += "." + name();
      s->names.push_back(std::move(target));
    } while (accept_op(","));
    if (accept_op("=")) {
      s->expr = expression(true);
      expect(TokenType::kBlockEnd, "'%}'");
      return s;
    }
    s->kind = StmtKind::kSetBlock;
    if (is_op("|")) {
      auto subject = std::make_unique<Expr>();
      subject->kind = ExprKind::kName;
      subject->text = "__body__";
      s->expr = filters_after(std::move(subject), false);
    }
    expect(TokenType::kBlockEnd, "'%}'");
    s->body = block({"endset"});
    end_tag("endset");
    return s;
  }

  std::unique_ptr<Stmt> macro_statement(int line) {
    auto s = make(StmtKind::kMacro, line);
    s->macro = std::make_unique<MacroNode>();
    s->macro->name = name();
    expect_op("(");
    while (!accept_op(")")) {
      std::string parameter = name();
      ExprPtr absent = accept_op("=") ? expression() : nullptr;
      s->macro->parameters.emplace_back(std::move(parameter), std::move(absent));
      if (!is_op(")")) expect_op(",");
    }
    expect(TokenType::kBlockEnd, "'%}'");
    s->macro->body = block({"endmacro"});
    end_tag("endmacro");
    return s;
  }

  // ---- expressions, loosest first ----
  ExprPtr expr(ExprKind kind, std::string text = {}) const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = peek().line;
    e->text = std::move(text);
    return e;
  }
  ExprPtr expr(ExprKind kind, ExprPtr a, ExprPtr b, std::string text = {}) const {
    ExprPtr e = expr(kind, std::move(text));
    e->args.push_back(std::move(a));
    if (b) e->args.push_back(std::move(b));
    return e;
  }

  ExprPtr expression(bool tuple = false) {
    const Nested nested(*this);
    ExprPtr e = or_expression();
    while (accept_name("if")) {
      ExprPtr c = expr(ExprKind::kConditional);
      c->args.push_back(or_expression());
      c->args.push_back(std::move(e));
      c->args.push_back(accept_name("else") ? expression() : nullptr);
      e = std::move(c);
    }
    if (tuple && is_op(",")) {
      ExprPtr list = expr(ExprKind::kList);
      list->args.push_back(std::move(e));
      while (accept_op(",")) list->args.push_back(expression());
      e = std::move(list);
    }
    return e;
  }
  ExprPtr or_expression() {
    ExprPtr e = and_expression();
    while (accept_name("or")) {
      ExprPtr right = and_expression();
      e = expr(ExprKind::kOr, std::move(e), std::move(right));
    }
    return e;
  }
  ExprPtr and_expression() {
    ExprPtr e = not_expression();
    while (accept_name("and")) {
      ExprPtr right = not_expression();
      e = expr(ExprKind::kAnd, std::move(e), std::move(right));
    }
    return e;
  }
  ExprPtr not_expression() {
    const Nested nested(*this);
    if (accept_name("not")) return expr(ExprKind::kNot, not_expression(), nullptr);
    return comparison();
  }
  ExprPtr comparison() {
    ExprPtr first = sum();
    ExprPtr chain;
    while (true) {
      std::string op;
      for (const char* symbol : {"==", "!=", "<=", ">=", "<", ">"})
        if (op.empty() && accept_op(symbol)) op = symbol;
      if (op.empty() && accept_name("in")) op = "in";
      if (op.empty() && is_name("not") && is_name("in", 1)) take(), take(), op = "not in";
      if (op.empty()) return chain ? std::move(chain) : std::move(first);
      if (!chain) chain = expr(ExprKind::kCompare, std::move(first), nullptr);
      chain->ops.push_back(op);
      chain->args.push_back(sum());
    }
  }
  ExprPtr sum() {
    ExprPtr e = concatenation();
    while (is_op("+") || is_op("-")) {
      std::string op = take().text;
      ExprPtr right = concatenation();
      e = expr(ExprKind::kBinary, std::move(e), std::move(right), op);
    }
    return e;
  }
  ExprPtr concatenation() {
    ExprPtr e = product();
    while (accept_op("~")) {
      ExprPtr right = product();
      e = expr(ExprKind::kBinary, std::move(e), std::move(right), "~");
    }
    return e;
  }
  ExprPtr product() {
    ExprPtr e = unary();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
      std::string op = take().text;
      ExprPtr right = unary();
      e = expr(ExprKind::kBinary, std::move(e), std::move(right), op);
    }
    return e;
  }
  ExprPtr unary() {
    const Nested nested(*this);
    if (accept_op("-")) return expr(ExprKind::kNegate, unary(), nullptr);
    if (accept_op("+")) return unary();
    ExprPtr e = postfix(primary());
    if (accept_op("**")) {
      ExprPtr right = unary();
      e = expr(ExprKind::kBinary, std::move(e), std::move(right), "**");
    }
    return filters_after(std::move(e), false);
  }

  ExprPtr primary() {
    const Token token = take();
    switch (token.type) {
      case TokenType::kString: {
        std::string value = token.text;
        while (peek().type == TokenType::kString) value += take().text;  // adjacent literals join
        return constant(Value(std::move(value)));
      }
      case TokenType::kInteger:
        return constant(
            Value(static_cast<int64_t>(std::strtoll(without_underscores(token.text).c_str(), nullptr, 10))));
      case TokenType::kFloat:
        return constant(Value(std::strtod(without_underscores(token.text).c_str(), nullptr)));
      case TokenType::kName:
        if (token.text == "true" || token.text == "True") return constant(Value(true));
        if (token.text == "false" || token.text == "False") return constant(Value(false));
        if (token.text == "none" || token.text == "None") return constant(Value(None{}));
        return expr(ExprKind::kName, token.text);
      case TokenType::kOperator:
        if (token.text == "(") {
          if (accept_op(")")) return expr(ExprKind::kList);
          ExprPtr e = expression(true);
          expect_op(")");
          return e;
        }
        if (token.text == "[") return list_literal();
        if (token.text == "{") return dict_literal();
        [[fallthrough]];
      default:
        throw Failure{"an unexpected '" + token.text + "'", token.line};
    }
  }
  static std::string without_underscores(std::string text) {
    std::erase(text, '_');
    return text;
  }
  ExprPtr constant(Value value) const {
    ExprPtr e = expr(ExprKind::kConstant);
    e->value = std::move(value);
    return e;
  }
  ExprPtr list_literal() {
    ExprPtr e = expr(ExprKind::kList);
    while (!accept_op("]")) {
      e->args.push_back(expression());
      if (!is_op("]")) expect_op(",");
    }
    return e;
  }
  ExprPtr dict_literal() {
    ExprPtr e = expr(ExprKind::kDict);
    while (!accept_op("}")) {
      e->args.push_back(expression());
      expect_op(":");
      e->args.push_back(expression());
      if (!is_op("}")) expect_op(",");
    }
    return e;
  }

  ExprPtr postfix(ExprPtr e) {
    while (true) {
      if (accept_op(".")) {
        if (peek().type == TokenType::kInteger)
          e = expr(ExprKind::kIndex, std::move(e),
                   constant(Value(static_cast<int64_t>(std::strtoll(take().text.c_str(), nullptr, 10)))));
        else
          e = expr(ExprKind::kAttribute, std::move(e), nullptr, name());
      } else if (accept_op("[")) {
        e = subscript(std::move(e));
      } else if (is_op("(")) {
        ExprPtr call = expr(ExprKind::kCall, std::move(e), nullptr);
        arguments(*call);
        e = std::move(call);
      } else {
        return e;
      }
    }
  }
  ExprPtr subscript(ExprPtr e) {
    ExprPtr bounds[3];
    int part = 0;
    bool slice = false;
    while (!is_op("]")) {
      if (accept_op(":")) {
        slice = true;
        if (++part > 2) refuse("a slice has at most three parts");
      } else {
        bounds[part] = expression();
      }
    }
    expect_op("]");
    if (!slice) {
      if (!bounds[0]) refuse("an index is missing");
      return expr(ExprKind::kIndex, std::move(e), std::move(bounds[0]));
    }
    ExprPtr s = expr(ExprKind::kSlice, std::move(e), nullptr);
    for (ExprPtr& b : bounds) s->args.push_back(std::move(b));
    return s;
  }
  void arguments(Expr& call) {
    expect_op("(");
    while (!accept_op(")")) {
      if (peek().type == TokenType::kName && peek(1).type == TokenType::kOperator && peek(1).text == "=") {
        std::string key = take().text;
        take();
        call.named.emplace_back(std::move(key), expression());
      } else {
        call.args.push_back(expression());
      }
      if (!is_op(")")) expect_op(",");
    }
  }
  // "| filter(...)" and "is [not] test ..." bind tighter than every operator but the postfixes.
  ExprPtr filters_after(ExprPtr e, bool begins_with_name) {
    while (true) {
      if (begins_with_name || accept_op("|")) {
        begins_with_name = false;
        ExprPtr f = expr(ExprKind::kFilter, std::move(e), nullptr, name());
        if (is_op("(")) arguments(*f);
        e = postfix(std::move(f));
      } else if (accept_name("is")) {
        const bool negated = accept_name("not");
        ExprPtr t = expr(ExprKind::kTest, std::move(e), nullptr, name());
        if (is_op("("))
          arguments(*t);
        else if (peek().type == TokenType::kString || peek().type == TokenType::kInteger ||
                 (peek().type == TokenType::kName && !is_reserved(peek().text)))
          t->args.push_back(postfix(primary()));
        e = negated ? expr(ExprKind::kNot, std::move(t), nullptr) : std::move(t);
      } else {
        return e;
      }
    }
  }
  static bool is_reserved(const std::string& word) {
    return word == "and" || word == "or" || word == "not" || word == "if" || word == "else" || word == "in" ||
           word == "is";
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace linnet::text::jinja
