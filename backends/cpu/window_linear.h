// Scratch of window_linear_attention.
#pragma once

#include "backends/cpu/kernels.h"

namespace linnet::cpu {

// Where in scratch each part begins, in floats.
struct WindowLayout {
  int64_t block;              // tokens that go together
  int64_t tile;               // of them, tokens whose queries meet a block of keys together
  int64_t group;              // query heads of one kv head
  int64_t columns, features;  // of a feature map; features of a head (twice as many when paired)
  int64_t key_pad, value_pad;
  // Of a block: rotated and scaled queries, rotated keys, features, decays, z.q of each query.
  int64_t queries, keys, query_features, key_features, factors, normalizers;
  int64_t threads, thread_floats;
  // Of a thread, from its own beginning.
  int64_t raw, turned, table, transposed, rows, scores, total, most, sum, block_most, block_sum, keep, take;
};

inline WindowLayout window_layout(const KernelContext& c) {
  constexpr int64_t kBlockTokens = 64, kTileRows = 96, kKeys = 64, kScores = kKeys + 16;
  const auto& args = c.args<fb::WindowLinearAttentionT>();
  const int64_t heads = args.heads, kv = args.kv_heads, states = args.state_heads, d = args.head_dim;
  const int64_t tokens = c.in[0].dims[0];
  WindowLayout l{};
  l.block = tokens < kBlockTokens ? tokens : kBlockTokens;
  l.group = heads / kv;
  l.tile = l.group >= kTileRows ? 1 : kTileRows / l.group;
  if (l.tile > l.block) l.tile = l.block;
  l.columns = c.weights[0].dims[2];
  l.features = l.columns * (args.paired_features ? 2 : 1);
  l.key_pad = round_up(d, 4);
  l.value_pad = round_up(args.value_dim, 16);
  int64_t at = 0;
  const auto place = [&at](int64_t& part, int64_t size) {
    part = at;
    at += round_up(size, 16);
  };
  place(l.queries, l.block * heads * d);
  place(l.keys, l.block * kv * d);
  place(l.query_features, l.block * heads * l.features);
  place(l.key_features, l.block * states * l.features);
  place(l.factors, l.block * states * l.features);
  place(l.normalizers, l.block * heads);
  l.threads = at;
  at = 0;
  const int64_t rows = l.tile * l.group;
  place(l.raw, d);
  place(l.turned, d);
  place(l.table, args.rope ? static_cast<int64_t>(2 * args.rope->inverse_frequencies.size()) : 0);
  place(l.transposed, kKeys * l.key_pad);
  place(l.rows, kKeys * (l.key_pad > l.value_pad ? l.key_pad : l.value_pad));
  place(l.scores, rows * kScores);
  place(l.total, rows * l.value_pad);
  for (int64_t* part : {&l.most, &l.sum, &l.block_most, &l.block_sum, &l.keep, &l.take}) place(*part, rows);
  l.thread_floats = at;
  return l;
}

}  // namespace linnet::cpu
