// Arithmetic on f32 vectors where the model runs: what a sampler does between two runs of a denoiser. On a
// device the vectors never cross to the host.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace linnet {

// The elements from `first` on, of a vector or of a method's value.
struct VectorSlice {
  int method = -1;   // -1: of a vector
  size_t index = 0;  // of the vector, or of the value
  size_t first = 0;
};

// What an executable keeps beside the plan's values.
struct VectorPlan {
  std::vector<size_t> elements;  // of each vector
  // f32 inputs and outputs of methods that operations take; they take no others. Where the host does not
  // address the device's memory, runs do not copy these: write_value() and read_value() do, each on its own.
  std::vector<VectorSlice> values;

  size_t bytes() const;  // of the vectors
};

// to = constant + the sum of factor * from, clamped to +-limit, element by element. `to` may be one of its
// own terms. Vectors apart, an operation takes one value at most.
struct VectorOp {
  struct Term {
    VectorSlice from;
    double factor = 1;
  };
  // The last term is multiplied once more: by exp(slope * g + offset) or by the root of g, where g is the
  // element of `gain_of`.
  enum class Gain : uint8_t { kNone, kExp, kRoot };
  static constexpr size_t kMostTerms = 5;

  VectorSlice to;
  size_t elements = 0;
  std::array<Term, kMostTerms> terms{};
  size_t count = 0;  // of terms
  double constant = 0;
  float limit = std::numeric_limits<float>::infinity();
  Gain gain = Gain::kNone;
  VectorSlice gain_of;
  double slope = 0, offset = 0;
};

// Terms whose factor is 0 are left out.
template <size_t N>
VectorOp sum_of(const VectorSlice& to, size_t elements, const VectorOp::Term (&terms)[N]) {
  static_assert(N <= VectorOp::kMostTerms);
  VectorOp op;
  op.to = to;
  op.elements = elements;
  for (const VectorOp::Term& term : terms)
    if (term.factor != 0) op.terms[op.count++] = term;
  return op;
}

// Elements that must be finite for operations to be done.
struct Watched {
  VectorSlice slice;
  size_t elements = 0;
};

// Calls f(slice) for everything that an operation reads or writes.
template <typename F>
void for_each_slice(const VectorOp& op, const F& f) {
  f(op.to);
  for (size_t k = 0; k < op.count; ++k) f(op.terms[k].from);
  if (op.gain != VectorOp::Gain::kNone) f(op.gain_of);
}

// The vectors of a backend whose memory the host addresses. Sums are in double.
class HostVectors {
 public:
  // Where the value of a slice begins.
  using ValueMemory = std::function<float*(const VectorSlice&)>;

  explicit HostVectors(const VectorPlan& plan);
  std::span<float> operator[](size_t vector) { return vectors_[vector]; }
  // False, and nothing done, if a watched element is not finite. `value` may be empty where there are vectors
  // only.
  bool apply(std::span<const VectorOp> ops, const Watched& watched, const ValueMemory& value);

 private:
  float* at(const VectorSlice& slice, const ValueMemory& value);
  void apply(const VectorOp& op, const ValueMemory& value);
  std::vector<std::vector<float>> vectors_;
};

}  // namespace linnet
