// Scalar mathematics that both host backends use where vectors do not pay, and cache row codecs.
#pragma once

#include <cmath>

#include "backends/host/kernel.h"
#include "runtime/core/ring_slot.h"

namespace linnet::host {

inline float activate(fb::Activation activation, float x) {
  switch (activation) {
    case fb::Activation::None:
      return x;
    case fb::Activation::Silu:
      return x / (1.0f + std::exp(-x));
    case fb::Activation::Gelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f));
    case fb::Activation::GeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case fb::Activation::Relu:
      return x < 0.0f ? 0.0f : x;  // NaN passes
    case fb::Activation::ReluSquared:
      return x < 0.0f ? 0.0f : x * x;
    case fb::Activation::Sigmoid:
      return 1.0f / (1.0f + std::exp(-x));
    case fb::Activation::Tanh:
      return std::tanh(x);
    case fb::Activation::Softplus:
      return x > 20.0f ? x : std::log1p(std::exp(x));
    case fb::Activation::Exp:
      return std::exp(x);
    case fb::Activation::LogSigmoid:
      return x < 0.0f ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
    case fb::Activation::Elu1:
      return x > 0.0f ? x + 1.0f : std::exp(x);
  }
  return x;
}

// Bytes of one row of `channels` values in a key/value cache.
inline size_t cache_row_bytes(DType dtype, int64_t channels) { return plan::cache_bytes(dtype, 1, channels); }
// Encodes / decodes `channels` values; q8 rows are groups of {f16 scale, int8[32]}.
void store_cache_row(DType dtype, const float* values, int64_t channels, std::byte* row);
void load_cache_row(DType dtype, const std::byte* row, int64_t first, int64_t channels, float* values);

// The slot of token `position` in a ring.
inline int64_t ring_slot(const plan::Ring& ring, int64_t position) {
  return linnet::ring_slot(position, ring.sinks, ring.capacity);
}

// Turns one head in place by `position` (which may be negative: turning back).
void rotate_head(const fb::RotaryEmbeddingT& rope, double position, float amplitude, float* head);

}  // namespace linnet::host
