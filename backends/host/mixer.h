// What the recurrent mixers of both host backends share: defaults of absent argument tables and the limit of
// a write.
#pragma once

#include "backends/host/kernel.h"

namespace linnet::host {

// What one token may write into a state, per unit of key. A delta rule whose beta or keys are out of any sane
// range multiplies its state at every token; limited writes add up instead, so that the state stays finite.
// No trained model comes near it.
inline constexpr float kMostWrite = 1e20f;
template <typename T>
T limit_write(T u) {  // NaN passes
  constexpr T most = static_cast<T>(kMostWrite);
  return u > most ? most : u < -most ? -most : u;
}

inline const fb::DecayT& or_default(const std::unique_ptr<fb::DecayT>& decay) {
  static const fb::DecayT none;
  return decay ? *decay : none;
}
inline const fb::HeadMapT& or_default(const std::unique_ptr<fb::HeadMapT>& map) {
  static const fb::HeadMapT none;
  return map ? *map : none;
}

inline const Tensor& operand(std::span<const Tensor> tensors, size_t i) {
  static const Tensor none;
  return i < tensors.size() ? tensors[i] : none;
}

}  // namespace linnet::host
