#include "runtime/engine/vectors.h"

#include <algorithm>
#include <cmath>

namespace linnet {

size_t VectorPlan::bytes() const {
  size_t sum = 0;
  for (const size_t n : elements) sum += n * sizeof(float);
  return sum;
}

HostVectors::HostVectors(const VectorPlan& plan) {
  for (const size_t n : plan.elements) vectors_.emplace_back(n, 0.0f);
}

float* HostVectors::at(const VectorSlice& slice, const ValueMemory& value) {
  return (slice.method < 0 ? vectors_[slice.index].data() : value(slice)) + slice.first;
}

void HostVectors::apply(const VectorOp& op, const ValueMemory& value) {
  float* const to = at(op.to, value);
  std::array<const float*, VectorOp::kMostTerms> from{};
  for (size_t k = 0; k < op.count; ++k) from[k] = at(op.terms[k].from, value);
  const bool gains = op.gain != VectorOp::Gain::kNone;
  const float* const gain_of = gains ? at(op.gain_of, value) : nullptr;
  for (size_t i = 0; i < op.elements; ++i) {
    double x = op.constant;
    for (size_t k = 0; k < op.count; ++k) {
      double term = op.terms[k].factor * static_cast<double>(from[k][i]);
      if (gains && k + 1 == op.count) {
        const double g = gain_of[i];
        term *= op.gain == VectorOp::Gain::kExp ? std::exp(op.slope * g + op.offset) : std::sqrt(g);
      }
      x += term;
    }
    to[i] = std::clamp(static_cast<float>(x), -op.limit, op.limit);
  }
}

bool HostVectors::apply(std::span<const VectorOp> ops, const Watched& watched, const ValueMemory& value) {
  if (watched.elements > 0) {
    const float* const x = at(watched.slice, value);
    if (!std::all_of(x, x + watched.elements, [](float v) { return std::isfinite(v); })) return false;
  }
  for (const VectorOp& op : ops) apply(op, value);
  return true;
}

}  // namespace linnet
