#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/window_linear_attention.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/attention_inl.h"
#include "backends/cpu/mixer_inl.h"
#include "backends/cpu/rotary_inl.h"
#include "backends/cpu/window_linear.h"
#include "runtime/core/ring_slot.h"

// A run goes in blocks of up to 64 tokens, each in three parallel passes and a last one that moves the ring:
//   prepare: rotated q and k, features of q, features and decay of the keys that leave the window
//   state:   head by head and tile by tile of columns, tokens enter the state and queries read it
//   window:  softmax over the window's keys in blocks of 64 that begin at multiples of 64 of the text's
//            positions (as softmax_attention does), then both parts under one normaliser
// While a block is at work the ring holds only what came before it; keys of the block come from the inputs.
// So a token's result is the same bits in whatever pieces it came, on however many threads.

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

struct WindowPass {
  const KernelContext* c;
  const fb::WindowLinearAttentionT* args;
  WindowLayout l;
  int64_t first, tokens;  // of this block, first relative to the run
  int64_t position;       // of its first token
  float* scratch;

  int64_t slot(int64_t p) const { return ring_slot(p, args->sinks, args->sinks + args->window); }
  const float* input(size_t i, int64_t t, int64_t head, int64_t d) const {
    return c->in[i].as() + (first + t) * c->in[i].channels() + head * d;
  }
  const float* ring(size_t i, int64_t p, int64_t head, int64_t d) const {
    return c->states[i].as() + (slot(p) * args->kv_heads + head) * d;
  }
  const float* value(int64_t p, int64_t kv) const {
    return p < position ? ring(1, p, kv, args->value_dim) : input(2, p - position, kv, args->value_dim);
  }
  // Rows of scratch that a block shares. Queries of one kv head follow each other: [kv, tokens, group, d].
  float* query(int64_t t, int64_t h) const {
    const int64_t kv = h / l.group;
    return scratch + l.queries + ((kv * l.block + t) * l.group + h % l.group) * args->head_dim;
  }
  float* key(int64_t t, int64_t kv) const {
    return scratch + l.keys + (t * args->kv_heads + kv) * args->head_dim;
  }
  float* query_features(int64_t t, int64_t h) const {
    return scratch + l.query_features + (t * args->heads + h) * l.features;
  }
  float* key_features(int64_t t, int64_t h) const {
    return scratch + l.key_features + (t * args->state_heads + h) * l.features;
  }
  float* factors(int64_t t, int64_t h) const {
    return scratch + l.factors + (t * args->state_heads + h) * l.features;
  }
  float* normalizer(int64_t t, int64_t h) const { return scratch + l.normalizers + t * args->heads + h; }
};

void turn(const fb::WindowLinearAttentionT& args, int64_t position, const float* x, float* table, float* y) {
  if (!args.rope) {
    for_lanes(args.head_dim, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(lanes.load(x + i), y + i); });
    return;
  }
  const auto n = static_cast<int64_t>(args.rope->inverse_frequencies.size());
  rotary_table(args.rope->inverse_frequencies.data(), n, static_cast<double>(position), 1.0f, table,
               table + n);
  rotate(table, table + n, n, args.rope->interleaved, args.head_dim, x, y);
}

// y = max(softmax(x M), floor), and the same of -x M after it where paired; M [d, columns].
void feature_map(const WindowPass& p, const float* map, const float* x, float* y) {
  const int64_t n = p.l.columns, d = p.args->head_dim;
  for_columns(0, n, [&](auto access, auto tile, int64_t column) HWY_ATTR {
    constexpr int kVectors = decltype(tile)::kVectors;
    FloatVec sum[kVectors];
    LINNET_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[v] = hn::Zero(FloatTag());
    for (int64_t i = 0; i < d; ++i) {
      const auto own = set(x[i]);
      LINNET_UNROLL
      for (int v = 0; v < kVectors; ++v)
        sum[v] = hn::MulAdd(own, access.load(map + i * n + column + v * kLanes), sum[v]);
    }
    LINNET_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      access.store(sum[v], y + column + v * kLanes);
      if (p.args->paired_features) access.store(hn::Neg(sum[v]), y + n + column + v * kLanes);
    }
  });
  const auto floor = set(p.args->feature_floor);
  for (int64_t part = 0; part < p.l.features; part += n) {
    softmax(y + part, n);
    for_lanes(n, [&](auto lanes, int64_t i) HWY_ATTR {
      const auto v = lanes.load(y + part + i);
      lanes.store(hn::IfThenElse(hn::Lt(v, floor), floor, v), y + part + i);  // NaN passes
    });
  }
}

void prepare_query(const WindowPass& p, int64_t t, int64_t h, float* own) {
  const int64_t d = p.args->head_dim;
  const float* raw = p.input(0, t, h, d);
  float *turned = own + p.l.raw, *q = p.query(t, h);
  turn(*p.args, p.position + t, raw, own + p.l.table, turned);
  const auto scale = set(p.args->scale);
  for_lanes(
      d, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(hn::Mul(lanes.load(turned + i), scale), q + i); });
  feature_map(p, p.c->weights[0].as() + h * d * p.l.columns, p.args->rotated_features ? turned : raw,
              p.query_features(t, h));
}

void prepare_key(const WindowPass& p, int64_t t, int64_t kv, float* own) {
  turn(*p.args, p.position + t, p.input(1, t, kv, p.args->head_dim), own + p.l.table, p.key(t, kv));
}

// Features and decay of the key that leaves the window when token t comes; none: the state stays as it is.
void prepare_leaving(const WindowPass& p, int64_t t, int64_t h, float* own) {
  const auto& args = *p.args;
  const int64_t leaving = p.position + t - args.window, d = args.head_dim, features = p.l.features;
  float *f = p.key_features(t, h), *factor = p.factors(t, h);
  if (leaving < args.sinks) {
    for_lanes(features, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(hn::Zero(FloatTag()), f + i);
      lanes.store(set(1.0f), factor + i);
    });
    return;
  }
  const int64_t kv = h / (args.state_heads / args.kv_heads);
  float *raw = own + p.l.raw, *turned = own + p.l.turned, *table = own + p.l.table;
  const float* key = p.ring(0, leaving, kv, d);
  if (leaving >= p.position) {  // another thread may be turning the block's own copy
    turn(args, leaving, p.input(1, leaving - p.position, kv, d), table, turned);
    key = turned;
  }
  const fb::DecayT& decay = host::or_default(args.decay);
  const Tensor &rates = host::operand(p.c->weights, 2), &offsets = host::operand(p.c->weights, 3);
  const bool reads = decay.kind != fb::DecayKind::None && decay.kind != fb::DecayKind::Constant;
  // As the reference: raw keys are turned back from what the ring holds.
  if (reads || !args.rotated_features) turn(args, -leaving, key, table, raw);
  feature_map(p, p.c->weights[1].as() + h * d * p.l.columns, args.rotated_features ? key : raw, f);
  const auto rate = set(rates ? rates.as()[h] : 1.0f);
  const float* offset = offsets ? offsets.as() + h * features : nullptr;
  for_lanes(features, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto x = reads ? lanes.load(raw + i) : hn::Zero(FloatTag());
    const auto shift = offset ? lanes.load(offset + i) : hn::Zero(FloatTag());
    lanes.store(decay_factor(decay, x, rate, shift), factor + i);
  });
}

// S <- diag(f) S + k v^T, then S^T q of each query of the state head to the output, for some columns.
template <int N, typename A>
void state_tile(const WindowPass& p, int64_t h, A access, int64_t column) {
  const auto& args = *p.args;
  const int64_t V = args.value_dim, F = p.l.features, queries = args.heads / args.state_heads;
  const int64_t kv = h / (args.state_heads / args.kv_heads);
  float* const state = p.c->states[2].as() + h * F * V + column;
  for (int64_t t = 0; t < p.tokens; ++t) {
    const int64_t leaving = p.position + t - args.window;
    const float *k = p.key_features(t, h), *f = p.factors(t, h);
    FloatVec x[N], y[N];
    if (leaving >= args.sinks) {
      const float* v = p.value(leaving, kv) + column;
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) x[n] = access.load(v + n * kLanes);
    } else {
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) x[n] = hn::Zero(FloatTag());
    }
    for (int64_t r = 0; r < queries; ++r) {
      const int64_t head = h * queries + r;
      const float* q = p.query_features(t, head);
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) y[n] = hn::Zero(FloatTag());
      if (r == 0) {
        for (int64_t i = 0; i < F; ++i) {
          const auto factor = set(f[i]), key = set(k[i]), query = set(q[i]);
          LINNET_UNROLL
          for (int n = 0; n < N; ++n) {
            float* at = state + i * V + n * kLanes;
            const auto s = hn::MulAdd(key, x[n], hn::Mul(factor, access.load(at)));
            access.store(s, at);
            y[n] = hn::MulAdd(query, s, y[n]);
          }
        }
      } else {
        for (int64_t i = 0; i < F; ++i) {
          const auto query = set(q[i]);
          LINNET_UNROLL
          for (int n = 0; n < N; ++n) y[n] = hn::MulAdd(query, access.load(state + i * V + n * kLanes), y[n]);
        }
      }
      float* out = p.c->out[0].as() + ((p.first + t) * args.heads + head) * V + column;
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) access.store(y[n], out + n * kLanes);
    }
  }
}

// z <- f z + k and z.q of each query of the state head.
void sum_keys(const WindowPass& p, int64_t h) {
  const int64_t F = p.l.features, queries = p.args->heads / p.args->state_heads;
  float* z = p.c->states[3].as() + h * F;
  for (int64_t t = 0; t < p.tokens; ++t) {
    const float *k = p.key_features(t, h), *f = p.factors(t, h);
    for_lanes(F, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(hn::MulAdd(lanes.load(f + i), lanes.load(z + i), lanes.load(k + i)), z + i);
    });
    for (int64_t r = 0; r < queries; ++r)
      *p.normalizer(t, h * queries + r) = dot(p.query_features(t, h * queries + r), z, F);
  }
}

// ---- the window -----------------------------------------------------------------------------------------

// A block of keys: positions [begin, end), gathered from ring and inputs where they are not in one piece.
struct KeyBlock {
  int64_t begin, end;
};
BlockRows gather(const WindowPass& p, size_t state, const KeyBlock& block, int64_t kv, int64_t d,
                 int64_t padded, float* buffer) {
  const int64_t last = block.end - 1;
  if (last < p.position && d == padded && p.slot(last) - p.slot(block.begin) == last - block.begin)
    return {p.ring(state, block.begin, kv, d), int64_t{p.args->kv_heads} * d};
  for (int64_t position = block.begin; position < block.end; ++position) {
    const float* from = position < p.position ? p.ring(state, position, kv, d)
                        : state == 0          ? p.key(position - p.position, kv)
                                              : p.input(2, position - p.position, kv, d);
    float* to = buffer + (position - block.begin) * padded;
    for_lanes(d, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(lanes.load(from + i), to + i); });
    for (int64_t i = d; i < padded; ++i) to[i] = 0;
  }
  return {buffer, padded};
}

// Token t's keys among [block.begin, block.end), relative to the block; the sinks' blocks are whole.
void keys_of(const WindowPass& p, int64_t t, const KeyBlock& block, int64_t* begin, int64_t* end) {
  const int64_t now = p.position + t, from = now - p.args->window + 1;
  *begin = block.begin < p.args->sinks || from < block.begin ? 0 : from - block.begin;
  *end = (block.end < now + 1 ? block.end : now + 1) - block.begin;
}

// out = (near total + share lin) / (near sum + share z.q + epsilon), both parts relative to one maximum.
void combine(const WindowPass& p, int64_t t, int64_t h, const float* total, float sum, float most) {
  const auto& args = *p.args;
  const auto weight = [&](size_t i) { return host::operand(p.c->weights, i).as(); };
  const float *log_bias = weight(4), *log_gain = weight(5), *window_factor = weight(6),
              *linear_factor = weight(7);
  float near = window_factor ? window_factor[h] : 1.0f, share = linear_factor ? linear_factor[h] : 1.0f;
  if (log_bias) {
    float w = log_bias[h];
    if (log_gain) w += dot(log_gain + h * args.head_dim, p.input(0, t, h, args.head_dim), args.head_dim);
    const float highest = most + 60.0f;  // an empty state must leave something of the window
    w = w > highest ? highest : w;       // NaN passes
    const float top = w > most ? w : most;
    near *= hn::GetLane(exp(set(most - top)));
    share *= hn::GetLane(exp(set(w - top)));
  }
  const float below = near * sum + share * *p.normalizer(t, h) + args.epsilon;
  const auto a = set(near / below), b = set(share / below);
  float* out = p.c->out[0].as() + ((p.first + t) * args.heads + h) * args.value_dim;
  for_lanes(args.value_dim, [&](auto lanes, int64_t i) HWY_ATTR {
    lanes.store(hn::MulAdd(a, lanes.load(total + i), hn::Mul(b, lanes.load(out + i))), out + i);
  });
}

// Tokens [first, first + count) of the block against their windows, all query heads of one kv head.
void attend(const WindowPass& p, int64_t kv, int64_t first, int64_t count, float* own) {
  const auto& args = *p.args;
  const WindowLayout& l = p.l;
  const int64_t rows = count * l.group, d = args.head_dim;
  const float* q = p.query(first, kv * l.group);
  float *most = own + l.most, *sum = own + l.sum, *block_most = own + l.block_most,
        *block_sum = own + l.block_sum, *keep = own + l.keep, *take = own + l.take, *total = own + l.total,
        *scores = own + l.scores;
  for (int64_t r = 0; r < rows; ++r) most[r] = kLowest, sum[r] = 0;
  for (int64_t i = 0; i < rows * l.value_pad; ++i) total[i] = 0;
  const auto take_in = [&](KeyBlock block) HWY_ATTR {
    const BlockRows keys = gather(p, 0, block, kv, d, l.key_pad, own + l.rows);
    transpose_keys(keys, block.end - block.begin, d, own + l.transposed);
    const BlockRows values = gather(p, 1, block, kv, args.value_dim, l.value_pad, own + l.rows);
    int64_t b0, e0, b1, e1;
    keys_of(p, first, block, &b0, &e0);
    keys_of(p, first + count - 1, block, &b1, &e1);
    const bool alike = b0 == b1 && e0 == e1 && e0 > b0;  // ranges move with the token
    const int64_t step = alike ? rows : l.group;
    for (int64_t row = 0; row < rows; row += step) {
      if (!alike) keys_of(p, first + row / l.group, block, &b0, &e0);
      if (e0 <= b0) {
        for (int64_t r = row; r < row + step; ++r) block_most[r] = kLowest, block_sum[r] = 0;
        continue;
      }
      score_block(q + row * d, d, d, step, own + l.transposed, b0, e0, scores + row * kScoreStride);
      for (int64_t r = row; r < row + step; ++r)
        block_sum[r] = softmax_row(0, e0 - b0, scores + r * kScoreStride + b0, block_most + r);
    }
    join_rows(rows, {most, sum, block_most, block_sum, keep, take});
    for (int64_t row = 0; row < rows; row += step) {
      if (!alike) keys_of(p, first + row / l.group, block, &b0, &e0);
      if (e0 <= b0) continue;
      add_values(scores + row * kScoreStride + b0, {values.data + b0 * values.stride, values.stride}, e0 - b0,
                 l.value_pad, step, keep + row, take + row, total + row * l.value_pad);
    }
  };
  // Sinks and window are cut at multiples of 64 and where the sinks end.
  const int64_t last = p.position + first + count, oldest = p.position + first - args.window + 1;
  const auto blocks = [&](int64_t from, int64_t to) HWY_ATTR {
    while (from < to) {
      const int64_t next = (from / kBlockKeys + 1) * kBlockKeys, end = next < to ? next : to;
      take_in({from, end});
      from = end;
    }
  };
  blocks(0, args.sinks < last ? args.sinks : last);
  blocks(oldest > args.sinks ? oldest : args.sinks, last);
  for (int64_t row = 0; row < rows; ++row)
    combine(p, first + row / l.group, kv * l.group + row % l.group, total + row * l.value_pad, sum[row],
            most[row]);
}

void run_block(WindowPass& p) {
  const auto& args = *p.args;
  const KernelContext& c = *p.c;
  const WindowLayout& l = p.l;
  const auto own = [&](int thread) { return p.scratch + l.threads + thread * l.thread_floats; };
  const int64_t items = args.heads + args.kv_heads + args.state_heads;
  c.pool->parallel_for_pieces(p.tokens * items, 16384 / (args.head_dim * l.columns) + 1,
                              [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
                                for (int64_t n = begin; n < end; ++n) {
                                  const int64_t t = n / items, item = n % items;
                                  if (item < args.heads)
                                    prepare_query(p, t, item, own(thread));
                                  else if (item < args.heads + args.kv_heads)
                                    prepare_key(p, t, item - args.heads, own(thread));
                                  else
                                    prepare_leaving(p, t, item - args.heads - args.kv_heads, own(thread));
                                }
                              });
  for_heads(c, args.state_heads, l.features, args.value_dim, false,
            [&](int, int64_t h, int64_t first_column, int64_t last_column) HWY_ATTR {
              if (first_column == 0) sum_keys(p, h);
              for_columns(first_column, last_column, [&](auto access, auto tile, int64_t column) HWY_ATTR {
                state_tile<decltype(tile)::kVectors>(p, h, access, column);
              });
            });
  const int64_t tiles = (p.tokens + l.tile - 1) / l.tile;
  c.pool->parallel_for_pieces(args.kv_heads * tiles, 1, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t first = n % tiles * l.tile;
      attend(p, n / tiles, first, p.tokens - first < l.tile ? p.tokens - first : l.tile, own(thread));
    }
  });
  // The block's last keys and values take their slots; of two tokens for one slot the later stays.
  const int64_t keys = int64_t{args.kv_heads} * args.head_dim,
                values = int64_t{args.kv_heads} * args.value_dim;
  for (int64_t t = 0; t < p.tokens; ++t) {
    const int64_t slot = p.slot(p.position + t);
    __builtin_memcpy(c.states[0].as() + slot * keys, p.key(t, 0), static_cast<size_t>(keys) * sizeof(float));
    __builtin_memcpy(c.states[1].as() + slot * values, p.input(2, t, 0, args.value_dim),
                     static_cast<size_t>(values) * sizeof(float));
  }
}

void run_window_linear_attention(const KernelContext& c) {
  WindowPass p{};
  p.c = &c;
  p.args = &c.args<fb::WindowLinearAttentionT>();
  p.l = window_layout(c);
  p.scratch = reinterpret_cast<float*>(c.scratch);
  const int64_t tokens = c.in[0].dims[0];
  for (p.first = 0; p.first < tokens; p.first += p.tokens) {
    p.position = c.position + p.first;
    p.tokens = tokens - p.first < p.l.block ? tokens - p.first : p.l.block;
    run_block(p);
  }
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  const WindowLayout l = window_layout(c);
  return static_cast<size_t>(l.threads + l.thread_floats * c.threads) * sizeof(float);
}
Kernel kernel_window_linear_attention(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_window_linear_attention), scratch};
}
}  // namespace linnet::cpu
#endif
