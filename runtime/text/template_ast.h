// The parsed form of a chat template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/template.h"
#include "runtime/text/template_value.h"

namespace linnet::text::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;

enum class ExprKind {
  kConstant,
  kName,
  kList,
  kDict,
  kNot,
  kNegate,
  kAnd,
  kOr,
  kConditional,
  kBinary,
  kCompare,
  kAttribute,
  kIndex,
  kSlice,
  kCall,
  kFilter,
  kTest,
};

struct Expr {
  ExprKind kind;
  int line = 0;
  Value value;                   // constant
  std::string text;              // name, attribute, operator, filter or test
  std::vector<ExprPtr> args;     // operands; absent slice bounds and arms are null
  std::vector<std::string> ops;  // of a comparison chain
  std::vector<std::pair<std::string, ExprPtr>> named;
};

enum class StmtKind {
  kText,
  kOutput,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kBreak,
  kContinue,
  kScope,
  kFilterBlock
};

struct MacroNode {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // with defaults, or null
  Block body;
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;                // literal text
  std::vector<std::string> names;  // targets of for and set ("ns.attribute" in two parts joined by a dot)
  ExprPtr expr;                    // output, iterable, value, filter chain
  ExprPtr condition;               // of a for
  std::vector<std::pair<ExprPtr, Block>> branches;  // of an if; a null condition is else
  Block body, otherwise;
  std::unique_ptr<MacroNode> macro;
};

// Throws Failure.
Block parse(std::string_view source);

}  // namespace linnet::text::jinja

namespace linnet::text {
struct ChatTemplate::Program {
  jinja::Block body;
};
}  // namespace linnet::text
