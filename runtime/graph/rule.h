// Helpers for shape rules: a Rule collects the first violated expectation of a node.
#pragma once

#include <string>
#include <vector>

#include "runtime/core/strings.h"
#include "runtime/graph/op_traits.h"
#include "runtime/graph/ops.h"

namespace linnet::graph {

// Both of each op are defined in rules_*.cc.
#define LINNET_OP(pascal, snake, equation)          \
  Result<void> check_##snake(const NodeView& view); \
  extern const OpTraits traits_##snake;
#include "runtime/graph/ops.def"
#undef LINNET_OP

// The arguments of a node whose op is known.
template <typename T>
const T& args_of(const fb::NodeT& node) {
  return *static_cast<const T*>(node.args.value);
}

// Row traits of ops that compute a row from the same row of each image.
inline bool always(const fb::NodeT&) { return true; }
inline int64_t one_row(const fb::NodeT&) { return 1; }
inline Rows same_rows(const fb::NodeT&, Rows out, int64_t) { return out; }

// Each expectation returns the rule, so a rule reads as a list; after the first failure the rest are skipped.
class Rule {
 public:
  explicit Rule(const NodeView& view) : view_(view) {}

  bool ok() const { return error_.empty(); }
  Result<void> result() const;
  void fail(std::string what);

  // Operand counts, inclusive.
  Rule& inputs(size_t least, size_t most);
  Rule& weights(size_t least, size_t most);
  Rule& states(size_t least, size_t most);
  Rule& outputs(size_t least, size_t most);
  Rule& require(bool condition, std::string_view what);

  // Present operands of the kind; null after a failure.
  const fb::ValueT* input(size_t i, DType dtype = DType::kF32);
  const fb::ValueT* optional_input(size_t i, DType dtype = DType::kF32);
  const fb::ValueT* output(size_t i, DType dtype = DType::kF32);
  // A matrix [n, k] in panel layout; n or k of -1 accepts any.
  const fb::WeightT* matrix(size_t i, int64_t n, int64_t k);
  const fb::WeightT* optional_matrix(size_t i, int64_t n, int64_t k);
  // A plain f32 tensor of exactly this shape.
  const fb::WeightT* tensor(size_t i, std::vector<int64_t> shape);
  const fb::WeightT* optional_tensor(size_t i, std::vector<int64_t> shape);
  const fb::StateT* state(size_t i, fb::StateRole role);

  // The last dimension of a value, which must be fixed; 0 after a failure.
  int64_t channels(const fb::ValueT* value);
  // value has the shape of `like` with the last dimension replaced by `channels`.
  Rule& shaped_like(const fb::ValueT* value, const fb::ValueT* like, int64_t channels);
  Rule& same_shape(const fb::ValueT* a, const fb::ValueT* b);
  // value is one row of whole parts of `channels`, and has part `part`.
  Rule& parts(const fb::ValueT* value, int64_t channels, int64_t part);

 private:
  const NodeView& view_;
  std::string error_;
};

}  // namespace linnet::graph
