#include "runtime/image/noise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace linnet::image {
namespace {

constexpr size_t kBlock = 16;

// Box-Muller over a block of uniforms: value j and value j + 8 make two normals.
void to_normal(std::span<float, kBlock> block) {
  for (size_t j = 0; j < kBlock / 2; ++j) {
    const float radius = std::sqrt(-2.0f * std::log(1.0f - block[j]));
    const float angle = 2.0f * std::numbers::pi_v<float> * block[j + kBlock / 2];
    block[j] = radius * std::cos(angle);
    block[j + kBlock / 2] = radius * std::sin(angle);
  }
}

}  // namespace

float Noise::uniform() { return static_cast<float>(engine_() & 0xFFFFFFu) * 0x1p-24f; }

void Noise::fill(std::span<float> values) {
  if (values.size() < kBlock) {
    std::array<float, kBlock> block;
    for (float& u : block) u = uniform();
    to_normal(block);
    std::copy_n(block.begin(), values.size(), values.begin());
    return;
  }
  for (float& u : values) u = uniform();
  for (size_t i = 0; i + kBlock <= values.size(); i += kBlock) to_normal(values.subspan(i).first<kBlock>());
  if (values.size() % kBlock == 0) return;
  // The last block overlaps the one before and is drawn anew.
  const auto last = values.last<kBlock>();
  for (float& u : last) u = uniform();
  to_normal(last);
}

}  // namespace linnet::image
