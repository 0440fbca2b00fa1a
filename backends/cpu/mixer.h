// Scratch of the recurrent mixers: every thread prepares a block of tokens of one head (decays, mapped
// queries and keys) as records of floats and then runs the head's state over them, column tile by column
// tile.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/host/mixer.h"

namespace linnet::cpu {

// Where in a token's record each part begins, in floats.
struct MixerRecord {
  int64_t keys, values;  // head sizes rounded up to whole vectors of any target
  int64_t factor;        // exp(g), per key channel (or per value channel)
  int64_t read_key;      // a: what the state is asked for what it holds
  int64_t query;         // b: what is read from it (several queries one after another)
  int64_t key;           // k of the write
  int64_t second_key;    // of a second write
  int64_t value;         // v
  int64_t scalars;       // see each op
  int64_t floats;        // of a record
  int64_t block;         // tokens prepared at a time
};

constexpr int64_t kMostLanes = 16;

// parts: which of {read_key, second_key} exist; queries: how many share the state.
constexpr MixerRecord mixer_record(int64_t key_dim, int64_t value_dim, int64_t queries, bool read_key,
                                   bool second_key) {
  MixerRecord r{};
  r.keys = round_up(key_dim, kMostLanes);
  r.values = round_up(value_dim, kMostLanes);
  const int64_t most = r.keys > r.values ? r.keys : r.values;
  int64_t at = 0;
  const auto place = [&](int64_t& part, int64_t size) {
    part = at;
    at += size;
  };
  place(r.factor, most);
  place(r.read_key, read_key ? r.keys : 0);
  place(r.query, queries * r.keys);
  place(r.key, r.keys);
  place(r.second_key, second_key ? r.keys : 0);
  place(r.value, r.values);
  place(r.scalars, round_up(4 + queries, kMostLanes));
  r.floats = at;
  // 24 KiB of records beside a tile of the state in the first cache.
  r.block = 6144 / r.floats;
  if (r.block < 2) r.block = 2;
  if (r.block > 16) r.block = 16;
  return r;
}

constexpr size_t mixer_scratch_bytes(const MixerRecord& r, int threads) {
  return static_cast<size_t>(r.floats * r.block) * static_cast<size_t>(threads) * sizeof(float);
}

}  // namespace linnet::cpu
