#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/gated_linear_attention.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/mixer_inl.h"

#ifndef LINNET_CPU_GATED_LINEAR_ATTENTION_SCRATCH  // once for all targets
#define LINNET_CPU_GATED_LINEAR_ATTENTION_SCRATCH
namespace linnet::cpu {
namespace {

struct LinearHeads {
  int64_t heads, outputs, queries_per_state;
  MixerRecord record;
};
LinearHeads linear_heads(const fb::GatedLinearAttentionT& args) {
  LinearHeads h{};
  h.heads = args.key_heads > args.value_heads ? args.key_heads : args.value_heads;
  h.outputs = args.query_heads > h.heads ? args.query_heads : h.heads;
  h.queries_per_state = h.outputs / h.heads;
  h.record = mixer_record(args.key_dim, args.value_dim, h.queries_per_state, false, false);
  return h;
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Rows of one head, token after token: as they lie in the input where nothing changes them, else in records.
struct TokenRows {
  const float* first;
  int64_t step;  // floats from token to token
  const float* of(int64_t token) const { return first + token * step; }
};

bool is_plain(const fb::HeadMapT& map) {
  return map.activation == fb::Activation::None && map.norm == fb::HeadNorm::None;
}

// A head's tokens over its state. Scalars of a record: step, then for each query scale / divisor.
template <typename S>
struct LinearPass {
  const LinearHeads* heads;
  const float* records;
  TokenRows keys, values, queries;  // further queries of the state a record's keys apart
  int64_t tokens, key_dim, value_dim;
  S* state;
  float* out;         // of the first token and query
  int64_t out_step;   // floats from a token's outputs to the next token's
  const float* skip;  // of the first query; null: none
};

// Vectors of a tile: each y is one chain of additions, four cycles a link, and so many chains keep both pipes
// busy. (The tiles of delta rules have two chains a vector.)
inline constexpr int kWideTile = 4;
// A step takes the time of the memory: rows of twice the width lie in one piece more often, which hardware
// prefetchers read ahead (Mamba-2's recurrence in 0.73 of the time). Over many tokens the tile would be too
// large for the registers.
inline constexpr int kStepTile = 2 * kWideTile;

// What the factors of a token belong to; one of the whole head is the same number in all of them.
enum class DecayOf { kRows, kColumns, kHead };

// S <- diag(f) S + k (step v)^T (f over rows, or over columns); o = S^T q
template <int N, DecayOf kDecay, typename S, typename A>
void linear_tile(const LinearPass<S>& p, A access, int64_t column) {
  const int64_t K = p.key_dim, V = p.value_dim;
  const MixerRecord& at = p.heads->record;
  S* const state = p.state + column;
  const float* record = p.records;
  for (int64_t t = 0; t < p.tokens; ++t, record += at.floats) {
    const float* scalars = record + at.scalars;
    const float *key = p.keys.of(t), *query = p.queries.of(t), *value = p.values.of(t) + column;
    // The next token's values and outputs lie a row of the activations further, where no hardware prefetcher
    // looks.
    if (t + 1 < p.tokens) {
      const float* next = p.values.of(t + 1) + column;
      float* next_out = p.out + (t + 1) * p.out_step + column;
      for (int64_t i = 0; i < N * kLanes; i += 16)
        __builtin_prefetch(next + i), __builtin_prefetch(next_out + i, 1);
    }
    FloatVec x[N], f[N], y[N];
    LINNET_UNROLL
    for (int n = 0; n < N; ++n) {
      x[n] = hn::Mul(set(scalars[0]), access.load(value + n * kLanes));
      if constexpr (kDecay == DecayOf::kColumns) f[n] = access.load(record + at.factor + column + n * kLanes);
      y[n] = hn::Zero(FloatTag());
    }
    auto row_factor = set(record[at.factor]);
    LINNET_UNROLL_TWICE
    for (int64_t i = 0; i < K; ++i) {
      const auto k = set(key[i]), q = set(query[i]);
      if constexpr (kDecay == DecayOf::kRows) row_factor = set(record[at.factor + i]);
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) {
        auto s = load_state(access, state + i * V + n * kLanes);
        s = hn::Mul(kDecay == DecayOf::kColumns ? f[n] : row_factor, s);
        s = hn::MulAdd(k, x[n], s);
        s = store_state(access, s, state + i * V + n * kLanes);
        y[n] = hn::MulAdd(q, s, y[n]);
      }
    }
    for (int64_t r = 0; r < p.heads->queries_per_state; ++r) {
      if (r > 0) {
        LINNET_UNROLL
        for (int n = 0; n < N; ++n) y[n] = hn::Zero(FloatTag());
        query += at.keys;
        for (int64_t i = 0; i < K; ++i) {
          const auto q = set(query[i]);
          LINNET_UNROLL
          for (int n = 0; n < N; ++n)
            y[n] = hn::MulAdd(q, load_state(access, state + i * V + n * kLanes), y[n]);
        }
      }
      const auto scale = set(scalars[1 + r]);
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) {
        auto o = hn::Mul(y[n], scale);
        if (p.skip) o = hn::MulAdd(set(p.skip[r]), access.load(value + n * kLanes), o);
        access.store(o, p.out + t * p.out_step + r * V + column + n * kLanes);
      }
    }
  }
}

// The node's inputs by head, and what becomes of them before linear_tile() reads them.
struct LinearInputs {
  const KernelContext& c;
  const fb::GatedLinearAttentionT& args;
  const LinearHeads& heads;
  const fb::HeadMapT &query_map, &key_map;
  DecayInput decay;
  int64_t K, V, R;  // channels of a key and a value; queries of a state
  int64_t key_group, value_group, query_group;
  // What nothing changes is read where it lies.
  bool plain_keys, plain_queries, plain_values;
  // Only linear_tile() reads the factors, and of a head's it reads one.
  bool first_factor_only;

  LinearInputs(const KernelContext& context, const LinearHeads& given)
      : c(context),
        args(context.args<fb::GatedLinearAttentionT>()),
        heads(given),
        query_map(host::or_default(args.query_map)),
        key_map(host::or_default(args.key_map)),
        decay{&host::or_default(args.decay),
              host::operand(c.in, 3),
              host::operand(c.weights, 0),
              host::operand(c.weights, 1),
              heads.heads,
              args.decay_values ? args.value_dim : args.key_dim},
        K(args.key_dim),
        V(args.value_dim),
        R(heads.queries_per_state),
        key_group(heads.heads / args.key_heads),
        value_group(heads.heads / args.value_heads),
        query_group(heads.outputs / args.query_heads),
        plain_keys(c.in[1] && is_plain(key_map)),
        plain_queries(R == 1 && is_plain(query_map)),
        plain_values(c.in[2] && args.value_activation == fb::Activation::None),
        first_factor_only(decay.of_head() && c.in[1] && c.in[2] && !args.normalized && !args.decay_values) {}

  const float* key_row(int64_t t, int64_t h) const {
    return c.in[1].as() + (t * args.key_heads + h / key_group) * K;
  }
  const float* value_row(int64_t t, int64_t h) const {
    return c.in[2].as() + (t * args.value_heads + h / value_group) * V;
  }
  const float* query_row(int64_t t, int64_t output) const {
    return c.in[0].as() + (t * args.query_heads + output / query_group) * K;
  }
  TokenRows keys(int64_t t, int64_t h, const float* records) const {
    if (plain_keys) return {key_row(t, h), args.key_heads * K};
    return {records + heads.record.key, heads.record.floats};
  }
  TokenRows values(int64_t t, int64_t h, const float* records) const {
    if (plain_values) return {value_row(t, h), args.value_heads * V};
    return {records + heads.record.value, heads.record.floats};
  }
  TokenRows queries(int64_t t, int64_t h, const float* records) const {
    if (plain_queries) return {query_row(t, h), args.query_heads * K};
    return {records + heads.record.query, heads.record.floats};
  }
};

void one_minus(const float* f, int64_t n, float* y) {
  for_lanes(
      n, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(hn::Sub(set(1.0f), lanes.load(f + i)), y + i); });
}

// z <- diag(f) z + k; returns it.
float* update_normalizer(const LinearInputs& in, int64_t t, int64_t h, const float* record) {
  const MixerRecord& at = in.heads.record;
  float* z = in.c.states[1].as() + h * in.K;
  const float* key = in.plain_keys ? in.key_row(t, h) : record + at.key;
  for_lanes(in.K, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto decayed = hn::Mul(lanes.load(record + at.factor + i), lanes.load(z + i));
    lanes.store(hn::Add(decayed, lanes.load(key + i)), z + i);
  });
  return z;
}

void prepare_token(const LinearInputs& in, int64_t t, int64_t h, float* record) {
  const auto& args = in.args;
  const MixerRecord& at = in.heads.record;
  const Tensor &k_in = in.c.in[1], &v_in = in.c.in[2];
  const float step = in.decay.factors(t, h, record + at.factor, in.first_factor_only);
  float* scalars = record + at.scalars;
  scalars[0] = args.step_scales_write ? step : 1.0f;
  // An absent key or value is what the decay takes away.
  if (!k_in)
    one_minus(record + at.factor, in.K, record + at.key);
  else if (!in.plain_keys)
    map_head(in.key_map, in.key_row(t, h), in.K, record + at.key);
  if (v_in && !in.plain_values) activate(args.value_activation, in.value_row(t, h), in.V, record + at.value);
  if (!v_in) one_minus(record + at.factor, in.V, record + at.value);
  const float* z = args.normalized ? update_normalizer(in, t, h, record) : nullptr;
  for (int64_t r = 0; r < in.R; ++r) {
    float* mapped = record + at.query + r * at.keys;
    if (!in.plain_queries) map_head(in.query_map, in.query_row(t, h * in.R + r), in.K, mapped);
    const float* q = in.plain_queries ? in.query_row(t, h) : mapped;
    scalars[1 + r] = args.scale;
    if (z) scalars[1 + r] = args.scale / (args.scale * dot(q, z, in.K) + args.normalizer_epsilon);
  }
}

// A head's columns over all tokens.
template <typename S>
void attend_head(const LinearInputs& in, int64_t h, int64_t first_column, int64_t last_column, S* state,
                 float* records) {
  const MixerRecord& at = in.heads.record;
  const Tensor& skip = host::operand(in.c.weights, 2);
  const int64_t tokens = in.c.in[0].dims[0];
  LinearPass<S> pass{};
  pass.heads = &in.heads;
  pass.records = records;
  pass.key_dim = in.K;
  pass.value_dim = in.V;
  pass.state = state;
  pass.out_step = in.heads.outputs * in.V;
  pass.skip = skip ? skip.as() + h * in.R : nullptr;
  for (int64_t t = 0; t < tokens; t += at.block) {
    pass.tokens = tokens - t < at.block ? tokens - t : at.block;
    for (int64_t i = 0; i < pass.tokens; ++i) prepare_token(in, t + i, h, records + i * at.floats);
    pass.out = in.c.out[0].as() + (t * in.heads.outputs + h * in.R) * in.V;
    pass.keys = in.keys(t, h, records);
    pass.values = in.values(t, h, records);
    pass.queries = in.queries(t, h, records);
    const auto pass_tile = [&](auto access, auto tile, int64_t column) HWY_ATTR {
      constexpr int kVectors = decltype(tile)::kVectors;
      if (in.args.decay_values)
        linear_tile<kVectors, DecayOf::kColumns>(pass, access, column);
      else if (in.decay.of_head())
        linear_tile<kVectors, DecayOf::kHead>(pass, access, column);
      else
        linear_tile<kVectors, DecayOf::kRows>(pass, access, column);
    };
    if (tokens == 1)
      for_columns<kStepTile>(first_column, last_column, pass_tile);
    else
      for_columns<kWideTile>(first_column, last_column, pass_tile);
  }
}

void run_gated_linear_attention(const KernelContext& c) {
  const LinearHeads heads = linear_heads(c.args<fb::GatedLinearAttentionT>());
  const LinearInputs in(c, heads);
  // A normaliser is one sum for all columns of a head: no two threads may share it.
  with_state(c.states[0], [&](auto* states) HWY_ATTR {
    for_heads(c, heads.heads, in.K, in.V, in.args.normalized,
              [&](int thread, int64_t h, int64_t first_column, int64_t last_column) HWY_ATTR {
                float* records =
                    reinterpret_cast<float*>(c.scratch) + thread * heads.record.floats * heads.record.block;
                attend_head(in, h, first_column, last_column, states + h * in.K * in.V, records);
              });
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) {
  return mixer_scratch_bytes(linear_heads(c.args<fb::GatedLinearAttentionT>()).record, c.threads);
}
Kernel kernel_gated_linear_attention(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_gated_linear_attention), scratch};
}
}  // namespace linnet::cpu
#endif
