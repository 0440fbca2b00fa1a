// What a kernel must know of its operands and its ring, and nothing of how they were planned: kernels are the
// costliest files to compile, and this is all of the plan that they include.
#pragma once

#include <cstdint>

#include "format/model_generated.h"
#include "runtime/core/dtype.h"
#include "runtime/core/limits.h"

namespace linnet::plan {

struct TensorShape {
  DType dtype = DType::kF32;
  fb::Layout layout = fb::Layout::RowMajor;
  int rank = 0;  // 0: an absent optional operand
  int64_t dims[kMaxRank] = {};

  explicit operator bool() const { return rank > 0; }
  int64_t channels() const { return dims[rank - 1]; }
  int64_t rows() const {  // product of all dimensions but the last
    int64_t n = 1;
    for (int i = 0; i + 1 < rank; ++i) n *= dims[i];
    return n;
  }
  int64_t elements() const { return rank > 0 ? rows() * channels() : 0; }
};

// The ring of one causal attention layer. Position p lives in slot p while p < sinks, and in
// sinks + (p - sinks) % (capacity - sinks) afterwards.
struct Ring {
  int64_t capacity = 0;
  int64_t window = 0;  // a query at p sees keys at j > p - window, and the sinks
  int64_t sinks = 0;
  bool operator==(const Ring&) const = default;
};

// Bytes of `rows` rows of `channels` values in a cache precision (q8: groups of 34 bytes as in dtype.h).
inline size_t cache_bytes(DType dtype, int64_t rows, int64_t channels) {
  const auto count = static_cast<size_t>(rows * channels);
  return is_quantized(dtype) ? count / static_cast<size_t>(kGroupSize) * group_bytes(dtype)
                             : count * element_bytes(dtype);
}

}  // namespace linnet::plan
