#include "backends/vulkan/lowering.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/strings.h"

namespace linnet::vulkan {

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
