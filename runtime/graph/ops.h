// The op catalogue: what each op computes and which shapes it accepts. Backends implement ops by kind; the
// runtime knows no model family. Immutable data, safe from any thread.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "format/model_generated.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::graph {

enum class OpKind : uint8_t {
#define LINNET_OP(pascal, snake, equation) k##pascal,
#include "runtime/graph/ops.def"
#undef LINNET_OP
  kCount
};
inline constexpr size_t kOpCount = static_cast<size_t>(OpKind::kCount);

// A node with its references resolved; absent optional operands are null.
struct NodeView {
  const fb::ModelT* model;
  const fb::MethodT* method;
  const fb::NodeT* node;

  OpKind kind() const;
  template <typename T>
  const T& args() const {
    return *static_cast<const T*>(node->args.value);
  }
  size_t input_count() const { return node->inputs.size(); }
  size_t weight_count() const { return node->weights.size(); }
  const fb::ValueT* input(size_t i) const;
  const fb::ValueT* output(size_t i) const;
  const fb::WeightT* weight(size_t i) const;
  const fb::StateT* state(size_t i) const;
};

struct OpTraits;  // runtime/graph/op_traits.h

struct OpInfo {
  OpKind kind;
  std::string_view name;
  std::string_view equation;
  // Checks operand counts, dtypes and shapes against the rule; the error names the node and the operand.
  Result<void> (*check)(const NodeView&);
  const OpTraits& traits;
};

const OpInfo& op_info(OpKind kind);
OpKind op_kind(fb::OpArgs type);  // the caller has checked that type is a member of the union

// Checks every node of every method. A model that passes can be planned and run.
Result<void> check_model(const fb::ModelT& model);

// "[tokens, 576]", for messages.
std::string shape_text(const fb::ModelT& model, std::span<const fb::Dim> shape);
std::string shape_text(std::span<const int64_t> shape);

inline fb::Dim fixed_dim(int64_t n) { return fb::Dim(-1, 1, 1, n); }
inline bool is_fixed(const fb::Dim& dim) { return dim.symbol() < 0; }
inline bool same_dim(const fb::Dim& a, const fb::Dim& b) {
  if (is_fixed(a) && is_fixed(b)) return a.add() == b.add();
  return a.symbol() == b.symbol() && a.mul() == b.mul() && a.div() == b.div() && a.add() == b.add();
}
// The value of a dimension under bound symbols. The container's verifier has excluded div <= 0.
inline int64_t dim_value(const fb::Dim& dim, std::span<const int64_t> symbols) {
  if (is_fixed(dim)) return dim.add();
  return symbols[static_cast<size_t>(dim.symbol())] * dim.mul() / dim.div() + dim.add();
}
// Index of the symbol of this name, or -1.
int find_symbol(const fb::ModelT& model, std::string_view name);
int find_method(const fb::ModelT& model, std::string_view name);

}  // namespace linnet::graph
