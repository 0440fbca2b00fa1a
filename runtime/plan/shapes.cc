#include "runtime/plan/shapes.h"

#include <algorithm>
#include <cassert>

namespace linnet::plan {
namespace {

TensorShape fixed(DType dtype, fb::Layout layout, std::span<const int64_t> dims) {
  assert(dims.size() <= kMaxRank);
  TensorShape shape{dtype, layout, static_cast<int>(dims.size()), {}};
  std::ranges::copy(dims, shape.dims);
  return shape;
}

}  // namespace

TensorShape shape_of(const fb::ValueT& value, std::span<const int64_t> symbols) {
  assert(value.shape.size() <= kMaxRank);
  TensorShape shape;
  shape.dtype = static_cast<DType>(value.dtype);
  shape.rank = static_cast<int>(value.shape.size());
  for (size_t i = 0; i < value.shape.size(); ++i) shape.dims[i] = graph::dim_value(value.shape[i], symbols);
  return shape;
}
TensorShape shape_of(const fb::WeightT& weight) {
  return fixed(static_cast<DType>(weight.dtype), weight.layout, weight.shape);
}
TensorShape shape_of(const StatePlan& state) { return fixed(state.dtype, fb::Layout::RowMajor, state.shape); }

NodeShapes node_shapes(const fb::ModelT& model, const Bounds& bounds, const Plan& plan, size_t method,
                       size_t node, std::span<const int64_t> symbols) {
  const fb::MethodT& source = *model.methods[method];
  NodeShapes shapes;
  shapes.node = source.nodes[node].get();
  const auto value = [&](int i) {
    return i < 0 ? TensorShape() : shape_of(*source.values[static_cast<size_t>(i)], symbols);
  };
  for (const int i : shapes.node->inputs) shapes.in.push_back(value(i));
  for (const int i : shapes.node->outputs) shapes.out.push_back(value(i));
  for (const int i : shapes.node->weights)
    shapes.weights.push_back(i < 0 ? TensorShape() : shape_of(*model.weights[static_cast<size_t>(i)]));
  for (const int i : shapes.node->states)
    shapes.states.push_back(shape_of(plan.states[static_cast<size_t>(i)]));
  if (const std::optional<Ring> ring = ring_of(*shapes.node, model, bounds)) shapes.ring = *ring;
  return shapes;
}

NodeShapes largest_shapes(const fb::ModelT& model, const Bounds& bounds, const Plan& plan, size_t method,
                          size_t node) {
  NodeShapes shapes = node_shapes(model, bounds, plan, method, node, bounds.symbols);
  for (const RowSegment& segment : plan.methods[method].rows.segments) {
    if (static_cast<int>(node) < segment.first || static_cast<int>(node) >= segment.last) continue;
    const size_t local = node - static_cast<size_t>(segment.first);
    for (size_t i = 0; i < shapes.in.size(); ++i)
      if (shapes.in[i] && row_input(*shapes.node, i))
        shapes.in[i].dims[0] = (i == 0 ? segment.in_rows : segment.out_rows)[local];
    for (TensorShape& out : shapes.out) out.dims[0] = segment.out_rows[local];
  }
  return shapes;
}

}  // namespace linnet::plan
