// Turning heads with shaders rotary_embedding.comp, for the ops that do it besides rotary_embedding.
#pragma once

#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {

inline void add_rotation(Lowering& l, const fb::RotaryEmbeddingT& rope, int64_t rows, int64_t channels,
                         const RopeAngle& angle, const Binding& from, const Binding& to) {
  constexpr uint32_t kThreads = 64;
  Dispatch d;
  d.shader = "rotary_embedding";
  d.constants = {kThreads, rope.interleaved ? 1u : 0u};
  d.bindings = {from, l.rope(rope, rows, angle), to};
  d.push = {u32(rows * channels), u32(channels), u32(rope.head_dim),
            u32(static_cast<int64_t>(rope.inverse_frequencies.size()))};
  d.groups = ceil_div(rows * channels, kThreads);
  l.add(std::move(d));
}

}  // namespace linnet::vulkan
