#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/softmax_attention.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/attention_inl.h"
#include "backends/cpu/cache_rows_inl.h"
#include "backends/cpu/rotary_inl.h"
#include "backends/host/embeddings.h"

// Softmax attention block by block (Milakov and Gimelshein 2018; Dao et al. 2022).
//
// Keys come in blocks of 64 that start at multiples of 64 of the text's positions; the sinks are blocks of
// their own. A query's running maximum, sum and total take in one block after another in the order of
// positions. Where blocks begin depends on positions alone, so a query's result is the same bits in whatever
// chunks the tokens came, on however many threads.
//
// Many tokens: a piece of work is one key/value head and a tile of tokens, all of whose query heads meet each
// block together. One token: a piece of work is one block and one key/value head, whose results wait in
// scratch and are then taken in in the same order by the same arithmetic.

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Rows (tokens x query heads of one key/value head) of a tile: enough to use a converted block many times,
// few enough that queries, scores, totals and the block stay in the second-level cache.
inline constexpr int64_t kTileRows = 96, kFewestTileRows = 24;

// Everything about a node and a run that does not change from piece to piece.
struct Attention {
  const fb::SoftmaxAttentionT* args;
  plan::Ring ring;
  bool causal;
  int64_t tokens, position;
  int64_t group;  // query heads of one key/value head
  int64_t tile_tokens;
  int64_t key_pad, value_pad;  // head sizes in fours, and as whole vectors
  const float* q;
  const float* gate;  // null: none
  float* out;
  const float* bias;  // [heads, bias_stride] by the key's place relative to the query's; null: none
  int64_t bias_stride, bias_zero;
  const float* mask;    // by key, 0 where it is not seen (bidirectional); null: none
  Tensor keys, values;  // rows of cache or, bidirectional, the inputs
  size_t key_row, value_row;

  // Where in a thread's scratch (floats).
  int64_t at_keys, at_rows, at_scores, at_total, at_table, at_row, thread_floats;
  // Decoding: one record of (total, sum, most) per block and head.
  int64_t record, blocks;
};

Attention describe(const KernelContext& c) {
  Attention a{};
  a.args = &c.args<fb::SoftmaxAttentionT>();
  a.causal = a.args->mask == fb::AttentionMask::Causal;
  a.tokens = c.in[0].rows();
  a.position = c.position;
  a.group = a.args->heads / a.args->kv_heads;
  a.tile_tokens = a.group >= kTileRows ? 1 : kTileRows / a.group;
  // Several pieces of work for every thread, so that none waits long for the last.
  while (a.tile_tokens * a.group > kFewestTileRows &&
         a.args->kv_heads * ((a.tokens + a.tile_tokens - 1) / a.tile_tokens) < 4 * c.threads)
    a.tile_tokens = (a.tile_tokens + 1) / 2;
  a.key_pad = round_up(a.args->head_dim, 4);
  a.value_pad = round_up(a.args->value_dim, kLanes);
  a.q = c.in[0].as();
  a.gate = c.in.size() > 3 ? c.in[3].as() : nullptr;
  a.out = c.out[0].as();
  a.keys = a.causal ? c.states[0] : c.in[1];
  a.values = a.causal ? c.states[1] : c.in[2];
  a.ring = a.causal ? c.ring : plan::Ring{c.in[1].rows(), c.in[1].rows(), 0};
  a.key_row = host::cache_row_bytes(a.keys.dtype, int64_t{a.args->kv_heads} * a.args->head_dim);
  a.value_row = host::cache_row_bytes(a.values.dtype, int64_t{a.args->kv_heads} * a.args->value_dim);
  const int64_t rows = a.group > kTileRows ? a.group : kTileRows;
  const int64_t turned = a.args->rope ? static_cast<int64_t>(a.args->rope->inverse_frequencies.size()) : 0;
  a.at_keys = round_up(rows * a.args->head_dim, 16);
  a.at_rows = a.at_keys + kBlockKeys * a.key_pad;
  a.at_scores = a.at_rows + kBlockKeys * (a.key_pad > a.value_pad ? a.key_pad : a.value_pad);
  a.at_total = a.at_scores + rows * kScoreStride;
  a.at_table = a.at_total + rows * a.value_pad;
  a.at_row = a.at_table + round_up(2 * turned, 16);
  a.thread_floats = round_up(a.at_row + 6 * round_up(rows, 16), 16);
  a.record = a.value_pad + 2;
  // Sinks and window each begin and end inside a block.
  a.blocks = a.ring.sinks / kBlockKeys + 1 + a.ring.capacity / kBlockKeys + 2;
  a.mask = c.in.size() > 4 ? c.in[4].as() : nullptr;
  if (!c.weights.empty() && c.weights[0].rank > 0) {
    a.bias_zero = a.tokens - 1;
    a.bias_stride = a.tokens + c.in[1].rows();
    if (c.scratch) a.bias = reinterpret_cast<float*>(c.scratch) + c.threads * a.thread_floats;
  }
  return a;
}

Rows rows_at(const Attention& a, float* scratch) {
  float* p = scratch + a.at_row;
  const int64_t n = round_up(a.group > kTileRows ? a.group : kTileRows, 16);
  return {p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, p + 5 * n};
}

// Keys [begin, end) of a block, positions; in the sinks part queries are turned (see `load_queries`).
struct Block {
  int64_t begin, end;
  bool sinks;
};
// Keys that the query at position p sees.
struct Seen {
  int64_t sinks_end;   // sinks [0, sinks_end)
  int64_t begin, end;  // and these
};
Seen seen_by(const Attention& a, int64_t p) {
  if (!a.causal) return {0, 0, a.ring.capacity};
  const int64_t end = p + 1, from = end - a.ring.window;
  return {end < a.ring.sinks ? end : a.ring.sinks, from > a.ring.sinks ? from : a.ring.sinks, end};
}

// Calls f(block) for the blocks that hold any key of tokens [first, last].
template <typename F>
void for_blocks(const Attention& a, int64_t first, int64_t last, const F& f) {
  const Seen oldest = seen_by(a, first), newest = seen_by(a, last);
  for (int64_t b = 0; b < newest.sinks_end; b += kBlockKeys)
    f(Block{b, b + kBlockKeys < newest.sinks_end ? b + kBlockKeys : newest.sinks_end, true});
  for (int64_t b = oldest.begin; b < newest.end;) {
    const int64_t next = (b / kBlockKeys + 1) * kBlockKeys;
    const int64_t end = next < newest.end ? next : newest.end;
    f(Block{b, end, false});
    b = end;
  }
}

// The block's keys or values of one head as f32 rows: in place if they are f32 and `in_place`, else converted
// to `buffer`, each row padded with zeros.
BlockRows load_rows(const Attention& a, const Tensor& cache, size_t row_bytes, const Block& block,
                    int64_t first, int64_t channels, int64_t padded, bool in_place, float* buffer) {
  const auto slot = [&](int64_t position) {
    return static_cast<size_t>(block.sinks ? position : host::ring_slot(a.ring, position));
  };
  const size_t from = slot(block.begin);
  const size_t bytes = host::cache_row_bytes(cache.dtype, channels);
  const std::byte* rows = cache.data + from * row_bytes + host::cache_row_bytes(cache.dtype, first);
  const bool wraps = slot(block.end - 1) < from;
  // The next block while this one is at work: the steps from row to row are too long for the processor to
  // guess.
  const size_t ahead = kBlockKeys * row_bytes;
  if (cache.dtype == DType::kF32 && in_place && !wraps) {
    for (int64_t i = 0; i < block.end - block.begin; ++i)
      for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(rows + static_cast<size_t>(i) * row_bytes + ahead + b, 0, 3);
    return {reinterpret_cast<const float*>(rows), static_cast<int64_t>(row_bytes / sizeof(float))};
  }
  for (int64_t position = block.begin; position < block.end; ++position) {
    float* to = buffer + (position - block.begin) * padded;
    const std::byte* row = cache.data + slot(position) * row_bytes;
    for (size_t b = 0; b < bytes; b += 64)
      __builtin_prefetch(row + ahead + host::cache_row_bytes(cache.dtype, first) + b, 0, 3);
    load_row(cache.dtype, row, first, channels, to);
    for (int64_t i = channels; i < padded; ++i) to[i] = 0;
  }
  return {buffer, padded};
}

// Keys of the block, a channel after another, to scratch + at_keys.
void load_keys(const Attention& a, int64_t kv, const Block& block, float* scratch) {
  const int64_t d = a.args->head_dim;
  const BlockRows rows =
      load_rows(a, a.keys, a.key_row, block, kv * d, d, a.key_pad, true, scratch + a.at_rows);
  transpose_keys(rows, block.end - block.begin, d, scratch + a.at_keys);
}
BlockRows load_values(const Attention& a, int64_t kv, const Block& block, float* scratch) {
  const int64_t dv = a.args->value_dim;
  return load_rows(a, a.values, a.value_row, block, kv * dv, dv, a.value_pad, dv == a.value_pad,
                   scratch + a.at_rows);
}

// Queries of tokens [first, first + count) of key/value head `kv`, scaled, as rows (token, head). Attention
// sinks (StreamingLLM, Xiao et al. 2023): once the window has moved past them, the sinks are seen at the
// distance they have inside the cache, so against sinks a query is turned back by the difference.
void load_queries(const Attention& a, int64_t kv, int64_t first, int64_t count, bool sinks, float* scratch) {
  const auto scale = set(a.args->scale);
  const int64_t d = a.args->head_dim;
  float* to = scratch;
  for (int64_t t = first; t < first + count; ++t) {
    const int64_t p = a.position + t, cache_position = a.ring.sinks + a.ring.window - 1;
    const bool turn = sinks && a.args->rope && p > cache_position;
    const int64_t half = turn ? static_cast<int64_t>(a.args->rope->inverse_frequencies.size()) : 0;
    float* table = scratch + a.at_table;
    if (turn)
      rotary_table(a.args->rope->inverse_frequencies.data(), half, static_cast<double>(cache_position - p),
                   1.0f, table, table + half);
    for (int64_t h = kv * a.group; h < (kv + 1) * a.group; ++h, to += d) {
      const float* from = a.q + (t * a.args->heads + h) * d;
      for_lanes(d, [&](auto lanes, int64_t i)
                       HWY_ATTR { lanes.store(hn::Mul(lanes.load(from + i), scale), to + i); });
      if (turn) rotate(table, table + half, half, a.args->rope->interleaved, d, to, to);
    }
  }
}

// Scores and softmax within a block of rows [row, row + rows) of the tile, which all see the keys [begin,
// end), relative to the block.
void score_rows(const Attention& a, int64_t row, int64_t rows, int64_t begin, int64_t end, const Rows& r,
                float* scratch, const float* bias = nullptr, const float* mask = nullptr) {
  const int64_t d = a.args->head_dim;
  float* scores = scratch + a.at_scores + row * kScoreStride;
  score_block(scratch + row * d, d, d, rows, scratch + a.at_keys, begin, end, scores);
  for (int64_t i = 0; bias && i < rows; ++i) {
    const float* own = bias + (i % a.group) * a.bias_stride - i / a.group;
    float* to = scores + i * kScoreStride;
    for_lanes(end - begin, [&](auto lanes, int64_t j) HWY_ATTR {
      lanes.store(hn::Add(lanes.load(to + begin + j), lanes.load(own + begin + j)), to + begin + j);
    });
  }
  // Low enough to weigh nothing beside a key that is seen, finite so that a block without one has a maximum.
  constexpr float kUnseen = -1e30f;
  for (int64_t j = begin; mask && j < end; ++j)
    for (int64_t i = 0; mask[j] == 0 && i < rows; ++i) scores[i * kScoreStride + j] = kUnseen;
  for (int64_t i = 0; i < rows; ++i)
    r.block_sum[row + i] =
        softmax_row(a.args->softcap, end - begin, scores + i * kScoreStride + begin, r.block_most + row + i);
}

// out = total / sum [* act(gate)] for one query head.
void finish_head(const Attention& a, int64_t token, int64_t head, const float* total, float sum) {
  const int64_t dv = a.args->value_dim, at = (token * a.args->heads + head) * dv;
  const auto inverse = set(1.0f / sum);
  for_lanes(dv, [&](auto lanes, int64_t i)
                    HWY_ATTR { lanes.store(hn::Mul(lanes.load(total + i), inverse), a.out + at + i); });
  if (!a.gate) return;
  with_activation(a.args->gate_activation, [&](auto act) HWY_ATTR {
    for_lanes(dv, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(hn::Mul(lanes.load(a.out + at + i), act(lanes.load(a.gate + at + i))), a.out + at + i);
    });
  });
}

void clear(float* p, int64_t n, float value) {
  for (int64_t i = 0; i < n; ++i) p[i] = value;
}

// A tile: `count` tokens from `first` on, the query heads of `kv`.
void attend_tile(const Attention& a, int64_t kv, int64_t first, int64_t count, float* scratch) {
  const Rows r = rows_at(a, scratch);
  const int64_t rows = count * a.group;
  float* total = scratch + a.at_total;
  clear(r.most, rows, kLowest);
  clear(r.sum, rows, 0);
  clear(total, rows * a.value_pad, 0);
  int loaded = -1;
  const int64_t last = first + count - 1;
  for_blocks(a, a.position + first, a.position + last, [&](const Block& block) {
    if (loaded != static_cast<int>(block.sinks)) load_queries(a, kv, first, count, block.sinks, scratch);
    loaded = static_cast<int>(block.sinks);
    load_keys(a, kv, block, scratch);
    const BlockRows values = load_values(a, kv, block, scratch);
    // The keys that token t sees of this block, relative to its beginning.
    const auto range = [&](int64_t t, int64_t& begin, int64_t& end) {
      const Seen seen = seen_by(a, a.position + t);
      begin = block.sinks || seen.begin < block.begin ? block.begin : seen.begin;
      end = block.sinks ? seen.sinks_end : seen.end;
      end = end < block.end ? end : block.end;
      begin -= block.begin;
      end -= block.begin;
    };
    int64_t b0, e0, b1, e1;
    range(first, b0, e0);
    range(last, b1, e1);
    // Ranges move with the token: where the first and the last agree, all do.
    const bool alike = b0 == b1 && e0 == e1 && e0 > b0;
    if (alike) {
      // Of the first query head and token, from the block's first key on.
      const float* bias =
          a.bias ? a.bias + kv * a.group * a.bias_stride + a.bias_zero + block.begin - first : nullptr;
      score_rows(a, 0, rows, b0, e0, r, scratch, bias, a.mask ? a.mask + block.begin : nullptr);
    } else {
      for (int64_t t = 0; t < count; ++t) {
        range(first + t, b0, e0);
        if (e0 > b0) {
          score_rows(a, t * a.group, a.group, b0, e0, r, scratch);
        } else {
          clear(r.block_most + t * a.group, a.group, kLowest);
          clear(r.block_sum + t * a.group, a.group, 0);
        }
      }
    }
    join_rows(rows, r);
    const int64_t step = alike ? rows : a.group;
    for (int64_t row = 0; row < rows; row += step) {
      if (!alike) range(first + row / a.group, b0, e0);
      if (e0 <= b0) continue;
      add_values(scratch + a.at_scores + row * kScoreStride + b0,
                 {values.data + b0 * values.stride, values.stride}, e0 - b0, a.value_pad, step, r.keep + row,
                 r.take + row, total + row * a.value_pad);
    }
  });
  for (int64_t row = 0; row < rows; ++row)
    finish_head(a, first + row / a.group, kv * a.group + row % a.group, total + row * a.value_pad,
                r.sum[row]);
}

// One token against one block: a record (total, sum, most) for each query head of `kv`.
void attend_block(const Attention& a, int64_t kv, const Block& block, float* records, float* scratch) {
  const Rows r = rows_at(a, scratch);
  load_queries(a, kv, 0, 1, block.sinks, scratch);
  load_keys(a, kv, block, scratch);
  const BlockRows values = load_values(a, kv, block, scratch);
  float* total = scratch + a.at_total;
  clear(total, a.group * a.value_pad, 0);
  clear(r.keep, a.group, 0);
  clear(r.take, a.group, 1);
  score_rows(a, 0, a.group, 0, block.end - block.begin, r, scratch);
  add_values(scratch + a.at_scores, values, block.end - block.begin, a.value_pad, a.group, r.keep, r.take,
             total);
  for (int64_t g = 0; g < a.group; ++g) {
    float* record = records + g * a.record;
    for (int64_t i = 0; i < a.value_pad; i += kLanes)
      hn::StoreU(hn::LoadU(FloatTag(), total + g * a.value_pad + i), FloatTag(), record + i);
    record[a.value_pad] = r.block_sum[g];
    record[a.value_pad + 1] = r.block_most[g];
  }
}

// Takes in the records of heads [begin, end) in the order of blocks, as attend_tile does.
void join_records(const Attention& a, int64_t begin, int64_t end, int64_t blocks, const float* records,
                  float* scratch) {
  const Rows r = rows_at(a, scratch);
  float* total = scratch + a.at_total;
  for (int64_t head = begin; head < end; ++head) {
    clear(total, a.value_pad, 0);
    *r.most = kLowest;
    *r.sum = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      const float* record = records + (b * a.args->heads + head) * a.record;
      *r.block_sum = record[a.value_pad];
      *r.block_most = record[a.value_pad + 1];
      join_rows(1, r);
      const auto keep = set(*r.keep), take = set(*r.take);
      for (int64_t i = 0; i < a.value_pad; i += kLanes) {
        const auto sum = hn::LoadU(FloatTag(), record + i);
        const auto kept = hn::Mul(hn::LoadU(FloatTag(), total + i), keep);
        hn::StoreU(hn::MulAdd(sum, take, kept), FloatTag(), total + i);
      }
    }
    finish_head(a, 0, head, total, *r.sum);
  }
}

void decode(const KernelContext& c, const Attention& a) {
  auto* scratch = reinterpret_cast<float*>(c.scratch);
  float* records = scratch + c.threads * a.thread_floats;
  int64_t blocks = 0;
  for_blocks(a, a.position, a.position, [&](const Block&) { ++blocks; });
  // 64 keys of one head take less than a microsecond.
  c.pool->parallel_for_thread(blocks * a.args->kv_heads, 6, [&](int thread, int64_t begin, int64_t end) {
    int64_t piece = 0;
    for_blocks(a, a.position, a.position, [&](const Block& block) {
      for (int64_t kv = 0; kv < a.args->kv_heads; ++kv, ++piece) {
        if (piece < begin || piece >= end) continue;
        float* own = records + (piece / a.args->kv_heads * a.args->heads + kv * a.group) * a.record;
        attend_block(a, kv, block, own, scratch + thread * a.thread_floats);
      }
    });
  });
  const int64_t grain = 32768 / (blocks * a.value_pad) + 1;
  c.pool->parallel_for_thread(a.args->heads, grain, [&](int thread, int64_t begin, int64_t end) {
    join_records(a, begin, end, blocks, records, scratch + thread * a.thread_floats);
  });
}

void store_tokens(const KernelContext& c, const Attention& a) {
  const int64_t key_channels = int64_t{a.args->kv_heads} * a.args->head_dim;
  const int64_t value_channels = int64_t{a.args->kv_heads} * a.args->value_dim;
  c.pool->parallel_for(a.tokens, 16384 / key_channels + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto slot = static_cast<size_t>(host::ring_slot(a.ring, a.position + t));
      store_row(a.keys.dtype, c.in[1].as() + t * key_channels, key_channels, a.keys.data + slot * a.key_row);
      store_row(a.values.dtype, c.in[2].as() + t * value_channels, value_channels,
                a.values.data + slot * a.value_row);
    }
  });
}

// T5's bias of every head and distance, from the most negative one.
void fill_bias(const KernelContext& c, const Attention& a) {
  auto* lines = const_cast<float*>(a.bias);
  for (int64_t i = 0; i + 1 < a.bias_stride; ++i) {
    const int32_t bucket = host::relative_bucket(*a.args, i - a.bias_zero);
    for (int64_t h = 0; h < a.args->heads; ++h)
      lines[h * a.bias_stride + i] = c.weights[0].as()[bucket * a.args->heads + h];
  }
}

void run_softmax_attention(const KernelContext& c) {
  const Attention a = describe(c);
  if (a.tokens == 0) return;
  if (a.bias) fill_bias(c, a);
  if (a.causal) {
    store_tokens(c, a);
    if (a.tokens == 1) return decode(c, a);
  }
  const int64_t tiles = (a.tokens + a.tile_tokens - 1) / a.tile_tokens;
  auto* scratch = reinterpret_cast<float*>(c.scratch);
  c.pool->parallel_for_pieces(a.args->kv_heads * tiles, 1, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Later tiles see more keys: taking them from both ends in turn gives every run of pieces its share.
      const int64_t order = i % tiles, tile = order % 2 == 0 ? order / 2 : tiles - 1 - order / 2;
      const int64_t first = tile * a.tile_tokens, left = a.tokens - first;
      attend_tile(a, i / tiles, first, left < a.tile_tokens ? left : a.tile_tokens,
                  scratch + thread * a.thread_floats);
    }
  });
}

size_t softmax_attention_scratch(const KernelContext& c) {
  const Attention a = describe(c);
  int64_t floats = c.threads * a.thread_floats;
  if (a.causal) floats += a.blocks * a.args->heads * a.record;
  floats += a.args->heads * a.bias_stride;
  return static_cast<size_t>(floats) * sizeof(float);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_softmax_attention(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_softmax_attention), LINNET_CHOOSE(target, softmax_attention_scratch)};
}
}  // namespace linnet::cpu
#endif
