// The operands of a node in numbers: what executors, scratch sizes and the converter's self test see of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/plan/plan.h"
#include "runtime/plan/tensor.h"

namespace linnet::plan {

// The verifier has seen to it that no shape has more than kMaxRank dimensions.
TensorShape shape_of(const fb::ValueT& value, std::span<const int64_t> symbols);
TensorShape shape_of(const fb::WeightT& weight);
TensorShape shape_of(const StatePlan& state);

// A node's operands under given values of the symbols, absent ones included.
struct NodeShapes {
  const fb::NodeT* node = nullptr;
  std::vector<TensorShape> in, weights, states, out;
  Ring ring;  // of nodes that keep keys and values; the others' is empty

  template <typename T>
  const T& args() const {
    return *static_cast<const T*>(node->args.value);
  }
  bool has_in(size_t i) const { return i < in.size() && in[i]; }
  bool has_weight(size_t i) const { return i < weights.size() && weights[i]; }
};
// Reads the states of `plan`, which may still lack its methods.
NodeShapes node_shapes(const fb::ModelT& model, const Bounds& bounds, const Plan& plan, size_t method,
                       size_t node, std::span<const int64_t> symbols);
// The most of its operands that the node meets in one call at the bounds: those of a node that runs in bands
// have fewer rows.
NodeShapes largest_shapes(const fb::ModelT& model, const Bounds& bounds, const Plan& plan, size_t method,
                          size_t node);

}  // namespace linnet::plan
