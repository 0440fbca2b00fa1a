// What the recurrent mixers share on the host's side: shaders/mixer.glsl and shaders/state.glsl.
#pragma once

#include <algorithm>

#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {

inline const fb::DecayT& or_default(const std::unique_ptr<fb::DecayT>& decay) {
  static const fb::DecayT none;
  return decay ? *decay : none;
}
inline const fb::HeadMapT& or_default(const std::unique_ptr<fb::HeadMapT>& map) {
  static const fb::HeadMapT none;
  return map ? *map : none;
}

// Tiles of a state [key_dim, value_dim]: four threads share a column.
struct StateTiles {
  static constexpr uint32_t kSlices = 4;
  uint32_t columns, threads, rows, tiles;

  StateTiles(const Lowering& l, int64_t key_dim, int64_t value_dim) {
    columns = std::min(threads_for(value_dim, 32), l.device().most_threads() / kSlices);
    threads = columns * kSlices;
    rows = static_cast<uint32_t>(ceil_div(key_dim, kSlices));
    tiles = static_cast<uint32_t>(ceil_div(value_dim, columns));
  }
  // Constants 0 to 3.
  std::vector<uint32_t> constants(int64_t key_dim) const { return {threads, kSlices, rows, u32(key_dim)}; }
};

// The decay of a state whose input, rate and offset are the operands of these indices.
inline uint32_t decay_flags(const Lowering& l, size_t input, size_t rate, int64_t heads) {
  const bool per_channel = l.shapes.has_in(input) && l.shapes.in[input].channels() != heads;
  return (per_channel ? 1u : 0u) | (l.shapes.has_weight(rate) ? 2u : 0u) |
         (l.shapes.has_weight(rate + 1) ? 4u : 0u);
}
// The decays of a head's token, for `channels` channels.
inline int64_t decays(uint32_t flags, int64_t channels) { return (flags & 1u) != 0 ? channels : 1; }
// DECAY_PUSH
inline void push_decay(const Lowering& l, const fb::DecayT& decay, size_t input, int64_t channels,
                       Dispatch& d) {
  const int64_t row = l.shapes.has_in(input) ? l.shapes.in[input].channels() : 0;
  d.push.insert(d.push.end(), {u32(row), u32(channels), bits(decay.divisor), bits(decay.minimum),
                               bits(decay.step_minimum), bits(decay.step_maximum), bits(decay.slope)});
}

// Constants 0 to 11 of the mixers that map queries and keys: shaders/state.glsl,
// shaders/mixer_constants.glsl.
inline std::vector<uint32_t> mixer_constants(const StateTiles& tiles, int64_t key_dim, uint32_t flags,
                                             const fb::DecayT& decay, uint32_t of_decay,
                                             const fb::HeadMapT& query, const fb::HeadMapT& key,
                                             fb::Activation value) {
  std::vector<uint32_t> constants = tiles.constants(key_dim);
  constants.insert(constants.end(), {flags, code(decay.kind), of_decay, code(query.activation),
                                     code(query.norm), code(key.activation), code(key.norm), code(value)});
  return constants;
}

// What a chunk form has in shared memory for each of its tokens: arrays of key_dim floats and of the tile's
// columns, rows of products with the other tokens, and arrays of the threads' parts of sums; `once`: floats
// beside these.
struct ChunkArrays {
  int64_t keys, columns, products, parts, once = 0;
};

// The form of a recurrence that takes eight tokens between two barriers of the token form's kind
// (shaders/chunk.glsl), `factors` decays each. From two chunks on that outweighs the products inside a chunk,
// which every tile of value channels repeats.
inline bool in_chunks(const Lowering& l, const StateTiles& tiles, int64_t key_dim, int64_t factors,
                      const ChunkArrays& n) {
  constexpr int64_t kChunk = 8, kChunkedTokens = 2 * kChunk;
  const int64_t floats = kChunk * (n.keys * key_dim + n.columns * tiles.columns + n.products * kChunk +
                                   n.parts * tiles.threads + 1) +
                         (kChunk + 1) * factors + tiles.threads + n.once;
  return l.device().abilities().chunks && l.shapes.in[0].dims[0] >= kChunkedTokens &&
         static_cast<size_t>(floats) * sizeof(float) <= l.device().shared_bytes();
}

// `arrays` of key_dim floats beside what reduce.glsl and state.glsl take.
inline Result<void> check_shared(const Lowering& l, int64_t key_dim, uint32_t threads, int64_t arrays) {
  const auto bytes =
      static_cast<size_t>(key_dim * arrays + 2 * static_cast<int64_t>(threads)) * sizeof(float);
  if (bytes <= l.device().shared_bytes()) return {};
  return fail(ErrorCode::kUnsupported,
              "heads this wide do not fit the device's shared memory: use --backend cpu");
}

}  // namespace linnet::vulkan
