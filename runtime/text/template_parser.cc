#include "runtime/text/template_parser.h"

#include <algorithm>

#include "runtime/core/strings.h"

namespace linnet::text::jinja {
namespace {

using Ends = std::initializer_list<std::string_view>;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  std::unique_ptr<FunctionNode> run() {
    auto root = std::make_unique<FunctionNode>();
    root->body = block({});
    resolve_names(*root);
    return root;
  }

 private:
  struct Nested {
    explicit Nested(Parser& p) : parser(p) {
      if (++parser.depth_ > kMostBlocks)
        throw Failure{"blocks are nested too deeply", parser.peek().line, Failure::kBound};
      parser.stack_.check();
    }
    ~Nested() { --parser.depth_; }
    Parser& parser;
  };
  // Directly within an if, or out of it again in the body of a loop or macro.
  struct Soft {
    Soft(Parser& p, bool soft) : parser(p), before(std::exchange(p.soft_, soft)) {}
    ~Soft() { parser.soft_ = before; }
    Parser& parser;
    bool before;
  };
  // The loops and functions that `break` and `continue` stand in.
  struct InLoop {
    InLoop(Parser& p, bool loop) : parser(p), before(std::exchange(p.in_loop_, loop)) {}
    ~InLoop() { parser.in_loop_ = before; }
    Parser& parser;
    bool before;
  };

  // Up to a block tag whose name is one of `ends`; that name is left as the next token.
  Block block(Ends ends) {
    const Nested nested(*this);
    Block body;
    while (true) {
      const Token token = peek();
      if (token.type == TokenType::kEnd) {
        if (ends.size()) refuse(strf("the template ends where '{% {} %}' is expected", *(ends.end() - 1)));
        return body;
      }
      take();
      if (token.type == TokenType::kData) {
        auto s = make_statement(StmtKind::kText, token.line);
        s->text = token.text;
        body.push_back(std::move(s));
      } else if (token.type == TokenType::kVariableBegin) {
        auto s = make_statement(StmtKind::kOutput, token.line);
        s->outputs.push_back(tuple());
        expect(TokenType::kVariableEnd, "'}}'");
        body.push_back(std::move(s));
      } else {
        if (peek().type == TokenType::kName && std::ranges::find(ends, peek().text) != ends.end())
          return body;
        body.push_back(statement());
        expect(TokenType::kBlockEnd, "'%}'");
      }
    }
  }
  // The body of a statement, from the end of its opening tag.
  Block body_until(Ends ends) {
    accept_op(":");
    expect(TokenType::kBlockEnd, "'%}'");
    return block(ends);
  }
  Block whole_body(std::string_view end) {
    Block body = body_until({end});
    take();
    return body;
  }

  static std::unique_ptr<Stmt> make_statement(StmtKind kind, int line) {
    auto s = std::make_unique<Stmt>();
    s->kind = kind;
    s->line = line;
    return s;
  }

  std::unique_ptr<Stmt> statement() {
    const int line = peek().line;
    if (peek().type != TokenType::kName) unexpected("the name of a statement");
    const std::string keyword = take().text;
    if (keyword == "for") return for_statement(line);
    if (keyword == "if") return if_statement(line);
    if (keyword == "set") return set_statement(line);
    if (keyword == "macro") return macro_statement(line);
    if (keyword == "call") return call_statement(line);
    if (keyword == "with") return with_statement(line);
    if (keyword == "print") return print_statement(line);
    if (keyword == "break" || keyword == "continue") {
      if (!in_loop_) throw Failure{strf("'{}' stands in no loop", keyword), line};
      return make_statement(keyword == "break" ? StmtKind::kBreak : StmtKind::kContinue, line);
    }
    if (keyword == "generation") {
      auto s = make_statement(StmtKind::kCall, line);
      s->function = std::make_unique<FunctionNode>();
      function_body(*s->function, "endgeneration");
      return s;
    }
    if (keyword == "filter") {
      auto s = make_statement(StmtKind::kFilterBlock, line);
      s->expr = filters_after(named_filter(nullptr));
      const Soft soft(*this, false);
      s->body = whole_body("endfilter");
      return s;
    }
    for (const char* known : {"include", "extends", "import", "from", "block", "autoescape"})
      if (keyword == known)
        throw Failure{strf("{% {} %} is not supported: write out what it stands for", keyword), line,
                      Failure::kUnsupported};
    throw Failure{strf("there is no statement '{}'", keyword), line};
  }

  std::unique_ptr<Stmt> for_statement(int line) {
    auto s = make_statement(StmtKind::kFor, line);
    s->target = target("in");
    if (!accept_name("in")) unexpected("'in'");
    s->expr = tuple(false, "recursive");
    const Soft soft(*this, false);
    if (accept_name("if")) s->condition_expr = expression();
    s->recursive = accept_name("recursive");
    {
      const InLoop loop(*this, true);
      s->body = body_until({"else", "endfor"});
    }
    if (take().text == "else") s->otherwise = whole_body("endfor");
    return s;
  }

  std::unique_ptr<Stmt> if_statement(int line) {
    auto s = make_statement(StmtKind::kIf, line);
    const Soft soft(*this, true);
    while (true) {
      ExprPtr condition = tuple(false);
      Block body = body_until({"elif", "else", "endif"});
      s->branches.emplace_back(std::move(condition), std::move(body));
      const std::string next = take().text;
      if (next == "elif") continue;
      if (next == "else") s->branches.emplace_back(nullptr, whole_body("endif"));
      return s;
    }
  }

  std::unique_ptr<Stmt> set_statement(int line) {
    auto s = make_statement(StmtKind::kSet, line);
    s->target = target({}, true);
    if (accept_op("=")) {
      s->expr = tuple();
      return s;
    }
    s->kind = StmtKind::kSetBlock;
    if (is_op("|")) s->expr = filters_after(nullptr);
    const Soft soft(*this, false);
    s->body = whole_body("endset");
    return s;
  }

  void signature(FunctionNode& function) {
    expect_op("(");
    while (!is_op(")")) {
      if (!function.parameters.empty()) expect_op(",");
      const int line = peek().line;
      FunctionNode::Parameter p;
      p.name = store(name(), line)->text;
      for (const auto& other : function.parameters)
        if (other.name == p.name) throw Failure{strf("two parameters are called '{}'", p.name), line};
      if (accept_op("="))
        p.absent = expression();
      else if (!function.parameters.empty() && function.parameters.back().absent)
        refuse("a parameter without a default follows one that has one");
      function.parameters.push_back(std::move(p));
    }
    take();
  }
  void function_body(FunctionNode& function, std::string_view end) {
    const Soft soft(*this, false);
    const InLoop loop(*this, false);
    function.body = whole_body(end);
  }

  std::unique_ptr<Stmt> macro_statement(int line) {
    auto s = make_statement(StmtKind::kMacro, line);
    s->function = std::make_unique<FunctionNode>();
    s->function->name = store(name(), line)->text;
    signature(*s->function);
    function_body(*s->function, "endmacro");
    return s;
  }

  std::unique_ptr<Stmt> call_statement(int line) {
    auto s = make_statement(StmtKind::kCall, line);
    s->function = std::make_unique<FunctionNode>();
    if (is_op("(")) signature(*s->function);
    s->expr = expression();
    if (s->expr->kind != ExprKind::kCall)
      throw Failure{"{% call %} needs a call, such as {% call name() %}", line};
    for (const auto& [key, value] : s->expr->named)
      if (key == "caller") throw Failure{"{% call %} passes 'caller' itself", line};
    function_body(*s->function, "endcall");
    return s;
  }

  std::unique_ptr<Stmt> with_statement(int line) {
    auto s = make_statement(StmtKind::kWith, line);
    while (peek().type != TokenType::kBlockEnd) {
      if (!s->targets.empty()) expect_op(",");
      s->targets.push_back(target());
      expect_op("=");
      s->outputs.push_back(expression());
    }
    const Soft soft(*this, false);
    s->body = whole_body("endwith");
    return s;
  }

  std::unique_ptr<Stmt> print_statement(int line) {
    auto s = make_statement(StmtKind::kOutput, line);
    while (peek().type != TokenType::kBlockEnd) {
      if (!s->outputs.empty()) expect_op(",");
      s->outputs.push_back(expression());
    }
    return s;
  }

  int depth_ = 0;
  bool in_loop_ = false;
};

}  // namespace

std::unique_ptr<FunctionNode> parse(std::string_view source) {
  std::vector<Token> tokens = tokenize(source);
  return Parser(std::move(tokens), __builtin_frame_address(0)).run();
}

}  // namespace linnet::text::jinja
