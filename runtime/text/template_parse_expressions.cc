#include <algorithm>
#include <cstdint>

#include "runtime/core/strings.h"
#include "runtime/text/template_filters.h"
#include "runtime/text/template_parser.h"

namespace linnet::text::jinja {
namespace {

std::string shown(const Token& token) {
  switch (token.type) {
    case TokenType::kEnd:
      return "the end of the template";
    case TokenType::kVariableEnd:
      return "'}}'";
    case TokenType::kBlockEnd:
      return "'%}'";
    case TokenType::kVariableBegin:
      return "'{{'";
    case TokenType::kBlockBegin:
      return "'{%'";
    default:
      return strf("'{}'", token.text);
  }
}

// From loose to tight.
enum Level { kOr, kAnd, kNot, kCompare, kSum, kConcat, kProduct, kPower };

// The operands that have a value whatever the others are.
size_t surely_evaluated(ExprKind kind) {
  switch (kind) {
    case ExprKind::kConditional:
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return 1;
    case ExprKind::kCompare:
      return 2;
    default:
      return SIZE_MAX;
  }
}

constexpr std::string_view kComparisons[] = {"==", "!=", "<=", ">=", "<", ">"};

}  // namespace

void ExpressionParser::unexpected(const std::string& wanted) const {
  refuse(strf("{} is expected, and {} is there", wanted, shown(peek())));
}
void ExpressionParser::expect_op(std::string_view op) {
  if (!accept_op(op)) unexpected(strf("'{}'", op));
}
void ExpressionParser::expect(TokenType type, const char* what) {
  if (peek().type != type) unexpected(what);
  take();
}
std::string ExpressionParser::name() {
  if (peek().type != TokenType::kName) unexpected("a name");
  return take().text;
}

std::unique_ptr<Expr> ExpressionParser::make(ExprKind kind, int line, std::string text) const {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->line = line;
  e->text = std::move(text);
  e->slices = kind == ExprKind::kSlice;
  e->constant = kind != ExprKind::kName && kind != ExprKind::kStore && kind != ExprKind::kCall &&
                !(kind == ExprKind::kFilter && find_free_filter(e->text) && e->text != "format");
  return e;
}

ExprPtr ExpressionParser::add(ExprPtr parent, ExprPtr child) {
  if (child) {
    parent->depth = std::max(parent->depth, child->depth + 1);
    if (parent->items.size() < surely_evaluated(parent->kind))
      parent->constant = parent->constant && child->constant;
    parent->slices = parent->slices || child->slices;
  }
  if (parent->depth > kMostDepth)
    throw Failure{"an expression is nested too deeply", parent->line, Failure::kBound};
  parent->items.push_back(std::move(child));
  return parent;
}

ExprPtr ExpressionParser::constant(Value value, int line) const {
  ExprPtr e = make(ExprKind::kConstant, line);
  e->value = std::move(value);
  return e;
}

ExprPtr ExpressionParser::expression(bool conditional) {
  stack_.check();
  int line = peek().line;
  ExprPtr e = operators(kOr);
  while (conditional && accept_name("if")) {
    const bool outer = std::exchange(soft_, true);
    ExprPtr c = add(make(ExprKind::kConditional, line), operators(kOr));
    c = add(std::move(c), std::move(e));
    e = add(std::move(c), accept_name("else") ? expression() : nullptr);
    soft_ = outer;
    line = peek().line;
  }
  return e;
}

ExprPtr ExpressionParser::operators(int level) {
  stack_.check();
  int line = peek().line;
  ExprPtr e;
  const bool tight =
      level > kNot || !is_name("not");  // what `not` covers is closed to all but `and` and `or`
  if (tight) {
    e = unary(true);
  } else {
    take();
    e = add(make(ExprKind::kNot, line), operators(kNot));
  }
  const auto binary = [&](ExprKind kind, std::string op, int right) {
    ExprPtr b = add(make(kind, line, std::move(op)), std::move(e));
    e = add(std::move(b), operators(right));
    line = peek().line;
  };
  while (true) {
    const Token& t = peek();
    const bool op = t.type == TokenType::kOperator;
    if (tight && level <= kPower && op && t.text == "**") {
      take();
      binary(ExprKind::kBinary, "**", kPower + 1);
    } else if (tight && level <= kProduct && op &&
               (t.text == "*" || t.text == "/" || t.text == "//" || t.text == "%")) {
      std::string text = take().text;
      binary(ExprKind::kBinary, std::move(text), kPower);
    } else if (tight && level <= kConcat && op && t.text == "~") {
      ExprPtr c = add(make(ExprKind::kConcat, line), std::move(e));
      while (accept_op("~")) c = add(std::move(c), operators(kProduct));
      e = std::move(c);
    } else if (tight && level <= kSum && op && (t.text == "+" || t.text == "-")) {
      std::string text = take().text;
      binary(ExprKind::kBinary, std::move(text), kConcat);
    } else if (tight && level <= kCompare &&
               (is_name("in") || (is_name("not") && is_name("in", 1)) ||
                (op && std::ranges::find(kComparisons, t.text) != std::end(kComparisons)))) {
      e = comparison(std::move(e));
    } else if (level <= kAnd && is_name("and")) {
      take();
      binary(ExprKind::kAnd, {}, kNot);
    } else if (level <= kOr && is_name("or")) {
      take();
      binary(ExprKind::kOr, {}, kAnd);
    } else {
      return e;
    }
  }
}

ExprPtr ExpressionParser::comparison(ExprPtr first) {
  ExprPtr chain = add(make(ExprKind::kCompare, peek().line), std::move(first));
  while (true) {
    std::string op;
    if (peek().type == TokenType::kOperator &&
        std::ranges::find(kComparisons, peek().text) != std::end(kComparisons))
      op = take().text;
    else if (accept_name("in"))
      op = "in";
    else if (is_name("not") && is_name("in", 1))
      take(), take(), op = "not in";
    if (op.empty()) return chain;
    chain->ops.push_back(op);
    chain = add(std::move(chain), operators(kSum));
  }
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  stack_.check();
  const int line = peek().line;
  ExprPtr e;
  if (accept_op("-"))
    e = add(make(ExprKind::kNegate, line), unary(false));
  else if (accept_op("+"))
    e = add(make(ExprKind::kPlus, line), unary(false));
  else
    e = primary();
  e = postfix(std::move(e));
  return with_filters ? filter_expression(std::move(e)) : std::move(e);
}

ExprPtr ExpressionParser::primary() {
  const Token token = peek();
  const int line = token.line;
  switch (token.type) {
    case TokenType::kString: {
      std::string value;
      while (peek().type == TokenType::kString) value += take().text;  // adjacent literals join
      return constant(Heap{}.text(std::move(value)), line);
    }
    case TokenType::kInteger:
      take();
      return constant(Value(token.integer), line);
    case TokenType::kFloat:
      take();
      return constant(Value(token.real), line);
    case TokenType::kName:
      take();
      if (token.text == "true" || token.text == "True") return constant(Value(true), line);
      if (token.text == "false" || token.text == "False") return constant(Value(false), line);
      if (token.text == "none" || token.text == "None") return constant(Value(None{}), line);
      return make(ExprKind::kName, line, token.text);
    case TokenType::kOperator:
      if (accept_op("(")) {
        ExprPtr e = tuple(true, {}, true);
        expect_op(")");
        return e;
      }
      if (token.text == "[") return list_literal();
      if (token.text == "{") return dict_literal();
      [[fallthrough]];
    default:
      unexpected("a value");
  }
}

ExprPtr ExpressionParser::tuple(bool conditional, std::string_view end, bool parenthesised) {
  const int line = peek().line;
  ExprPtr list = make(ExprKind::kTuple, line);
  bool comma = false;
  while (true) {
    if (!list->items.empty()) expect_op(",");
    const TokenType type = peek().type;
    if (type == TokenType::kVariableEnd || type == TokenType::kBlockEnd || is_op(")") ||
        (!end.empty() && is_name(end)))
      break;
    list = add(std::move(list), expression(conditional));
    if (!is_op(",")) break;
    comma = true;
  }
  if (comma) return list;
  if (!list->items.empty()) return std::move(list->items[0]);
  if (!parenthesised) unexpected("an expression");
  return list;
}

ExprPtr ExpressionParser::store(std::string name, int line) {
  for (const char* constant : {"true", "false", "none", "True", "False", "None"})
    if (name == constant) throw Failure{strf("nothing can be assigned to '{}'", name), line};
  return make(ExprKind::kStore, line, std::move(name));
}

ExprPtr ExpressionParser::target(std::string_view end, bool attributes) {
  stack_.check();
  const auto one = [&]() -> ExprPtr {
    const int line = peek().line;
    if (accept_op("(")) {
      ExprPtr inner = target();
      expect_op(")");
      return inner;
    }
    std::string first = name();
    if (attributes && accept_op(".")) {
      ExprPtr attribute = make(ExprKind::kAttribute, line, name());
      return add(std::move(attribute), make(ExprKind::kName, line, std::move(first)));
    }
    return store(std::move(first), line);
  };
  ExprPtr list = make(ExprKind::kTuple, peek().line);
  bool comma = false;
  while (true) {
    if (!list->items.empty()) expect_op(",");
    const TokenType type = peek().type;
    if (type == TokenType::kVariableEnd || type == TokenType::kBlockEnd || is_op(")") || is_op("=") ||
        (!end.empty() && is_name(end)))
      break;
    list = add(std::move(list), one());
    if (!is_op(",")) break;
    comma = true;
  }
  if (list->items.empty()) unexpected("a name to assign to");
  return comma ? std::move(list) : std::move(list->items[0]);
}

ExprPtr ExpressionParser::list_literal() {
  ExprPtr e = make(ExprKind::kList, take().line);
  while (!is_op("]")) {
    if (!e->items.empty()) expect_op(",");
    if (is_op("]")) break;
    e = add(std::move(e), expression());
  }
  take();
  return e;
}

ExprPtr ExpressionParser::dict_literal() {
  ExprPtr e = make(ExprKind::kDict, take().line);
  while (!is_op("}")) {
    if (!e->items.empty()) expect_op(",");
    if (is_op("}")) break;
    e = add(std::move(e), expression());
    expect_op(":");
    e = add(std::move(e), expression());
  }
  take();
  return e;
}

ExprPtr ExpressionParser::postfix(ExprPtr e) {
  while (true) {
    if (is_op(".") || is_op("["))
      e = subscript(std::move(e));
    else if (is_op("(")) {
      ExprPtr call = add(make(ExprKind::kCall, peek().line), std::move(e));
      arguments(call);
      check_call(*call);
      e = std::move(call);
    } else {
      return e;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr e) {
  const int line = take().line;
  if (tokens_[at_ - 1].text == ".") {
    const Token token = take();
    if (token.type == TokenType::kName) return add(make(ExprKind::kGetattr, line, token.text), std::move(e));
    if (token.type != TokenType::kInteger)
      throw Failure{"behind '.' a name or a number is expected", token.line};
    return add(add(make(ExprKind::kGetitem, line), std::move(e)), constant(Value(token.integer), token.line));
  }
  ExprPtr list = make(ExprKind::kTuple, line);
  ExprPtr bounds[3];
  bool slice = false, any_slice = false;
  while (!is_op("]")) {
    if (!list->items.empty() || any_slice) expect_op(",");
    if (any_slice)
      throw Failure{"several slices in one index are not supported", line, Failure::kUnsupported};
    ExprPtr item = subscribed(slice, bounds);
    if (slice) {
      any_slice = true;
      if (!list->items.empty())
        throw Failure{"a slice among other indices is not supported", line, Failure::kUnsupported};
    } else {
      list = add(std::move(list), std::move(item));
    }
  }
  take();
  if (any_slice) {
    ExprPtr s = add(make(ExprKind::kSlice, line), std::move(e));
    for (ExprPtr& b : bounds) s = add(std::move(s), std::move(b));
    return s;
  }
  ExprPtr key = list->items.size() == 1 ? std::move(list->items[0]) : std::move(list);
  return add(add(make(ExprKind::kGetitem, line), std::move(e)), std::move(key));
}

ExprPtr ExpressionParser::subscribed(bool& slice, ExprPtr (&bounds)[3]) {
  slice = false;
  if (!is_op(":")) {
    ExprPtr first = expression();
    if (!is_op(":")) return first;
    bounds[0] = std::move(first);
  }
  take();
  slice = true;
  const auto ends = [&] { return is_op("]") || is_op(","); };
  if (!is_op(":") && !ends()) bounds[1] = expression();
  if (accept_op(":") && !ends()) bounds[2] = expression();
  return nullptr;
}

void ExpressionParser::arguments(ExprPtr& call) {
  const int line = peek().line;
  expect_op("(");
  const auto ensure = [&](bool right) {
    if (!right) throw Failure{"the arguments of a call are out of order", line};
  };
  const auto deeper = [&](const ExprPtr& e) {
    call->depth = std::max(call->depth, e->depth + 1);
    call->constant = call->constant && e->constant;
    call->slices = call->slices || e->slices;
    if (call->depth > kMostDepth) throw Failure{"an expression is nested too deeply", line, Failure::kBound};
  };
  bool first = true;
  while (!is_op(")")) {
    if (!std::exchange(first, false)) {
      expect_op(",");
      if (is_op(")")) break;
    }
    if (accept_op("*")) {
      ensure(!call->more_items && !call->more_named);
      call->more_items = expression();
      deeper(call->more_items);
    } else if (accept_op("**")) {
      ensure(!call->more_named);
      call->more_named = expression();
      deeper(call->more_named);
    } else if (peek().type == TokenType::kName && is_op("=", 1)) {
      ensure(!call->more_named);
      std::string key = take().text;
      take();
      for (const auto& [other, value] : call->named) ensure(other != key);
      ExprPtr value = expression();
      deeper(value);
      call->named.emplace_back(std::move(key), std::move(value));
    } else {
      ensure(!call->more_items && !call->more_named && call->named.empty());
      call = add(std::move(call), expression());
    }
  }
  take();
}

// Methods of Python's that give what is no text of a template.
void ExpressionParser::check_call(const Expr& call) const {
  const Expr& callee = *call.items[0];
  if (callee.kind == ExprKind::kName && callee.text == "lipsum")
    throw Failure{"the function 'lipsum' is not supported: it is random", call.line, Failure::kUnsupported};
  if (callee.kind != ExprKind::kGetattr) return;
  for (const char* method : {"encode", "translate", "maketrans", "to_bytes", "from_bytes", "as_integer_ratio",
                             "hex", "fromhex", "unescape", "striptags"})
    if (callee.text == method)
      throw Failure{strf("the method '{}' is not supported", method), call.line, Failure::kUnsupported};
}

std::string ExpressionParser::dotted_name() {
  std::string text = name();
  while (accept_op(".")) text += "." + name();
  return text;
}

ExprPtr ExpressionParser::named_filter(ExprPtr e) {
  const int line = peek().line;
  std::string which = dotted_name();
  if (is_unsupported_filter(which))
    throw Failure{strf("the filter '{}' is not supported", which), line, Failure::kUnsupported};
  if (!is_filter(which) && !soft_) throw Failure{strf("there is no filter '{}'", which), line};
  ExprPtr f = add(make(ExprKind::kFilter, line, std::move(which)), std::move(e));
  if (is_op("(")) arguments(f);
  return f;
}

ExprPtr ExpressionParser::filters_after(ExprPtr e) {
  while (accept_op("|")) e = named_filter(std::move(e));
  return e;
}

ExprPtr ExpressionParser::filter_expression(ExprPtr e) {
  while (true) {
    if (is_op("|")) {
      e = filters_after(std::move(e));
    } else if (is_name("is")) {
      e = test(std::move(e));
    } else if (is_op("(")) {
      ExprPtr call = add(make(ExprKind::kCall, peek().line), std::move(e));
      arguments(call);
      e = std::move(call);
    } else {
      return e;
    }
  }
}

ExprPtr ExpressionParser::test(ExprPtr e) {
  const int line = take().line;
  const bool negated = accept_name("not");
  std::string which = dotted_name();
  if (!is_test(which) && !soft_) throw Failure{strf("there is no test '{}'", which), line};
  ExprPtr t = add(make(ExprKind::kTest, line, std::move(which)), std::move(e));
  const TokenType type = peek().type;
  if (is_op("(")) {
    arguments(t);
  } else if ((type == TokenType::kName && !is_name("else") && !is_name("or") && !is_name("and")) ||
             type == TokenType::kString || type == TokenType::kInteger || type == TokenType::kFloat ||
             is_op("[") || is_op("{")) {
    if (is_name("is")) refuse("tests with 'is' cannot follow each other");
    t = add(std::move(t), postfix(primary()));
  }
  if (!negated) return t;
  return add(make(ExprKind::kNot, line), std::move(t));
}

}  // namespace linnet::text::jinja
