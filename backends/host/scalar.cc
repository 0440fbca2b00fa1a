#include "backends/host/scalar.h"

#include <algorithm>
#include <cstring>

namespace linnet::host {

void store_cache_row(DType dtype, const float* values, int64_t channels, std::byte* row) {
  if (dtype == DType::kF32) {
    std::memcpy(row, values, static_cast<size_t>(channels) * sizeof(float));
    return;
  }
  if (dtype == DType::kF16) {
    auto* halves = reinterpret_cast<uint16_t*>(row);
    for (int64_t i = 0; i < channels; ++i) halves[i] = f32_to_f16(values[i]);
    return;
  }
  for (int64_t g = 0; g < channels; g += kGroupSize, row += group_bytes(DType::kQ8)) {
    float most = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < kGroupSize; ++i) {
      most = std::max(most, std::fabs(values[g + i]));
      finite = finite && std::isfinite(values[g + i]);
    }
    const uint16_t scale = finite ? f32_to_f16(most / 127.0f) : uint16_t{0x7E00};  // NaN must not get lost
    const float d = f16_to_f32(scale);
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    std::memcpy(row, &scale, sizeof(scale));
    auto* q = reinterpret_cast<int8_t*>(row + scale_bytes(DType::kQ8));
    for (int64_t i = 0; i < kGroupSize; ++i)
      q[i] = finite
                 ? static_cast<int8_t>(std::clamp(std::nearbyint(values[g + i] * inverse), -127.0f, 127.0f))
                 : int8_t{1};
  }
}

void load_cache_row(DType dtype, const std::byte* row, int64_t first, int64_t channels, float* values) {
  if (dtype == DType::kF32) {
    std::memcpy(values, row + static_cast<size_t>(first) * sizeof(float),
                static_cast<size_t>(channels) * sizeof(float));
    return;
  }
  if (dtype == DType::kF16) {
    const auto* halves = reinterpret_cast<const uint16_t*>(row) + first;
    for (int64_t i = 0; i < channels; ++i) values[i] = f16_to_f32(halves[i]);
    return;
  }
  for (int64_t i = 0; i < channels; ++i) {
    const std::byte* group = row + static_cast<size_t>((first + i) / kGroupSize) * group_bytes(DType::kQ8);
    uint16_t scale;
    std::memcpy(&scale, group, sizeof(scale));
    const auto q =
        static_cast<int8_t>(group[scale_bytes(DType::kQ8) + static_cast<size_t>((first + i) % kGroupSize)]);
    values[i] = f16_to_f32(scale) * static_cast<float>(q);
  }
}

void rotate_head(const fb::RotaryEmbeddingT& rope, double position, float amplitude, float* head) {
  const size_t half = rope.inverse_frequencies.size();
  for (size_t i = 0; i < half; ++i) {
    // Double: at a million tokens a float angle would be off by more than a hundredth of a turn.
    const double angle = position * static_cast<double>(rope.inverse_frequencies[i]);
    const auto c = static_cast<float>(std::cos(angle)) * amplitude;
    const auto s = static_cast<float>(std::sin(angle)) * amplitude;
    float& a = rope.interleaved ? head[2 * i] : head[i];
    float& b = rope.interleaved ? head[2 * i + 1] : head[i + half];
    const float x = a, y = b;
    a = x * c - y * s;
    b = y * c + x * s;
  }
}

}  // namespace linnet::host
