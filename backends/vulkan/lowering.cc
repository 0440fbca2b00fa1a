#include "backends/vulkan/lowering.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/strings.h"

namespace linnet::vulkan {
NodeShapes node_shapes(const fb::ModelT& model, const plan::Bounds& bounds, const plan::Plan& plan,
                       size_t method, size_t node, std::span<const int64_t> symbols) {
  const fb::MethodT& source = *model.methods[method];
  NodeShapes shapes;
  shapes.node = source.nodes[node].get();
  const auto value = [&](int index) {
    Shape shape;
    if (index < 0) return shape;
    const fb::ValueT& v = *source.values[static_cast<size_t>(index)];
    shape.dtype = static_cast<DType>(v.dtype);
    shape.rank = static_cast<int>(v.shape.size());
    for (size_t i = 0; i < v.shape.size(); ++i) shape.dims[i] = graph::dim_value(v.shape[i], symbols);
    return shape;
  };
  for (const int i : shapes.node->inputs) shapes.in.push_back(value(i));
  for (const int i : shapes.node->outputs) shapes.out.push_back(value(i));
  for (const int i : shapes.node->weights) {
    Shape shape;
    if (i >= 0) {
      const fb::WeightT& w = *model.weights[static_cast<size_t>(i)];
      shape.dtype = static_cast<DType>(w.dtype);
      shape.rank = static_cast<int>(w.shape.size());
      std::copy(w.shape.begin(), w.shape.end(), shape.dims.begin());
    }
    shapes.weights.push_back(shape);
  }
  for (const int i : shapes.node->states) {
    const plan::StatePlan& state = plan.states[static_cast<size_t>(i)];
    Shape shape;
    shape.dtype = state.dtype;
    shape.rank = static_cast<int>(state.shape.size());
    std::copy(state.shape.begin(), state.shape.end(), shape.dims.begin());
    shapes.states.push_back(shape);
  }
  if (const auto* attention = shapes.node->args.AsSoftmaxAttention())
    shapes.ring = plan::attention_ring(*attention, model, bounds);
  return shapes;
}

Binding Lowering::vector(size_t i) const {
  const auto& indices = at_.node->weights;
  if (i >= indices.size() || indices[i] < 0) return params();
  return {at_.weights->parts(static_cast<size_t>(indices[i]))[0].region, false};
}

const std::vector<MatrixPart>& Lowering::matrix(size_t i) const {
  return at_.weights->parts(static_cast<size_t>(at_.node->weights[i]));
}

Binding Lowering::scratch(size_t offset, size_t bytes, bool writes) const {
  return {{at_.scratch.buffer, at_.scratch.offset + offset, std::max<size_t>(bytes, 4)}, writes};
}

Binding Lowering::table(std::string key, size_t floats, std::function<void(int64_t, float*)> fill) {
  std::vector<HostTable>& tables = *at_.tables;
  auto found = std::ranges::find(tables, key, &HostTable::key);
  if (found == tables.end()) {
    tables.push_back({std::move(key), 0, 0});
    found = tables.end() - 1;
  }
  found->floats = std::max(found->floats, floats);
  const auto index = static_cast<size_t>(found - tables.begin());
  auto use = std::ranges::find(*at_.uses, index, &TableUse::table);
  if (use == at_.uses->end()) {
    at_.uses->push_back({index, 0, {}});
    use = at_.uses->end() - 1;
  }
  if (floats > use->floats) *use = {index, floats, std::move(fill)};
  return {{at_.params.buffer, at_.params.offset + found->offset, found->floats * sizeof(float)}, false};
}

// In double, as the reference has it: at a million tokens a float would be off by a hundredth of a turn.
Binding Lowering::rope(const fb::RotaryEmbeddingT& rope, int64_t rows, const RopeAngle& angle) {
  const bool forward = angle.kind == RopeAngle::Kind::kPosition;
  const float amplitude = forward ? rope.amplitude : 1.0f;
  std::string key =
      strf("rope {} {} {} {}", static_cast<int>(angle.kind), angle.sinks, angle.window, bits(amplitude));
  for (const float f : rope.inverse_frequencies) key += strf(" {}", bits(f));
  const size_t floats = static_cast<size_t>(rows) * 2 * rope.inverse_frequencies.size();
  return table(std::move(key), floats, [&rope, rows, angle, amplitude](int64_t position, float* out) {
    for (int64_t t = 0; t < rows; ++t) {
      const auto turn = static_cast<double>(angle.of(position + t));
      for (const float frequency : rope.inverse_frequencies) {
        const double a = turn * static_cast<double>(frequency);
        *out++ = static_cast<float>(std::cos(a)) * amplitude;
        *out++ = static_cast<float>(std::sin(a)) * amplitude;
      }
    }
  });
}

}  // namespace linnet::vulkan
