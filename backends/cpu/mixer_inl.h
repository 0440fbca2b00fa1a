// What the recurrent mixers share, compiled once per Highway target: decays, maps of heads, and the passes of
// tokens over a tile of a state. A state S of one head is [K, V] row-major; a tile is all K rows of some
// columns, which depend on no other columns, so any cut into tiles gives the same bits.

#if defined(LINNET_MIXER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_MIXER_INL_H_
#undef LINNET_MIXER_INL_H_
#else
#define LINNET_MIXER_INL_H_
#endif

#include "backends/cpu/mixer.h"
#include "backends/cpu/vector_math_inl.h"
#include "runtime/core/dtype.h"

#undef LINNET_NATIVE_HALF_STATES
// Where the processor converts halves itself, to the same bits as f32_to_f16().
#if HWY_TARGET <= HWY_AVX2 || (HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)
#define LINNET_NATIVE_HALF_STATES 1
#else
#define LINNET_NATIVE_HALF_STATES 0
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// Vectors of a tile's row: a pass keeps 2 (GLA) or 3 (delta rules) of each in registers.
inline constexpr int kTileVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
inline constexpr int64_t kTileColumns = kTileVectors * kLanes;

// ---- decays and maps ------------------------------------------------------------------------------------

HWY_INLINE FloatVec decay_step(const fb::DecayT& args, FloatVec x) {
  auto step = softplus(x);
  const auto least = set(args.step_minimum);
  step = hn::IfThenElse(hn::Lt(step, least), least, step);  // NaN passes
  if (args.step_maximum > 0) {
    const auto most = set(args.step_maximum);
    step = hn::IfThenElse(hn::Gt(step, most), most, step);
  }
  return step;
}

// exp(g), at most 1; x, rate and offset as model.fbs defines them for each kind.
HWY_INLINE FloatVec decay_factor(const fb::DecayT& args, FloatVec x, FloatVec rate, FloatVec offset) {
  const auto one = set(1.0f);
  auto g = hn::Zero(FloatTag());
  switch (args.kind) {
    case fb::DecayKind::None:
      return one;
    case fb::DecayKind::Constant:
      g = rate;
      break;
    case fb::DecayKind::Log:
      g = x;
      break;
    case fb::DecayKind::LogSigmoid:
      g = hn::Div(log_sigmoid(hn::Add(x, offset)), set(args.divisor));
      if (args.minimum != 0) {
        const auto least = set(args.minimum);
        g = hn::IfThenElse(hn::Lt(g, least), least, g);
      }
      break;
    case fb::DecayKind::Softplus:
      g = hn::Mul(rate, decay_step(args, hn::Add(x, offset)));
      break;
    case fb::DecayKind::Sigmoid:
      g = hn::Mul(set(args.slope), sigmoid(hn::Mul(rate, hn::Add(x, offset))));
      break;
    case fb::DecayKind::LowerBounded: {
      const auto f = hn::MulAdd(hn::Sub(one, offset), sigmoid(x), offset);
      return hn::IfThenElse(hn::Gt(f, one), one, f);
    }
  }
  return hn::IfThenElse(hn::Gt(g, hn::Zero(FloatTag())), one, exp(g));
}

// The decay of a state of `heads` heads of `channels` channels.
struct DecayInput {
  const fb::DecayT* args;
  Tensor x, rate, offset;
  int64_t heads, channels;

  // One factor for all channels of a head.
  bool of_head() const { return !x || x.channels() == heads; }

  // exp(g) of row t of x and head h to f[0 .. channels), or if `first_only`, where a head has one, to f[0]
  // (and some after it); returns the step of a Softplus decay per head.
  float factors(int64_t t, int64_t h, float* f, bool first_only = false) const {
    const auto ones = set(1.0f), zero = hn::Zero(FloatTag());
    const auto head_rate = rate ? set(rate.as()[h]) : ones;
    if (of_head()) {
      const auto own = x ? set(x.as()[t * heads + h]) : zero;
      const auto own_offset = offset ? set(offset.as()[h]) : zero;
      const auto factor = decay_factor(*args, own, head_rate, own_offset);
      if (first_only)
        Whole::store(factor, f);
      else
        for_lanes(channels, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(factor, f + i); });
      if (args->kind != fb::DecayKind::Softplus) return 1.0f;
      return hn::GetLane(decay_step(*args, hn::Add(own, own_offset)));
    }
    const float* row = x.as() + t * x.channels() + h * channels;
    const float* shift = offset ? offset.as() + h * channels : nullptr;
    for_lanes(channels, [&](auto lanes, int64_t i) HWY_ATTR {
      const auto own_offset = shift ? lanes.load(shift + i) : zero;
      lanes.store(decay_factor(*args, lanes.load(row + i), head_rate, own_offset), f + i);
    });
    return 1.0f;
  }
};

// Asks for row t of x, cut into rows of n floats (no tensor and rows beyond the last: nothing). One head's
// rows lie a whole row of activations apart, where no hardware prefetcher looks; and since those are often
// whole pages, they would push each other out of the first cache, so the second it is.
HWY_INLINE void prefetch_row(const Tensor& x, int64_t t, int64_t n) {
  if (!x || (t + 1) * n > x.elements()) return;
  for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x.as() + t * n + i, 0, 2);
}

// y = x divided by `divisor`; nothing to divide by leaves zeros as they are.
HWY_INLINE void divide(float* y, int64_t n, float divisor) {
  const auto inverse = set(1.0f / divisor);
  for_lanes(n,
            [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(hn::Mul(lanes.load(y + i), inverse), y + i); });
}

HWY_INLINE float sum(const float* x, int64_t n) {
  auto total = hn::Zero(FloatTag());
  for_lanes(n, [&](auto lanes, int64_t i) HWY_ATTR { total = hn::Add(total, lanes.load(x + i)); });
  return sum_of_lanes(total);
}

HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  auto total = hn::Zero(FloatTag());
  for_lanes(n, [&](auto lanes, int64_t i)
                   HWY_ATTR { total = hn::MulAdd(lanes.load(a + i), lanes.load(b + i), total); });
  return sum_of_lanes(total);
}

HWY_INLINE void softmax(float* y, int64_t n) {
  auto most = set(-HUGE_VALF);
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) most = hn::Max(most, Whole::load(y + i));
  float top = max_of_lanes(most);
  for (int64_t i = n / kLanes * kLanes; i < n; ++i) top = y[i] > top ? y[i] : top;
  for_lanes(n, [&](auto lanes, int64_t i)
                   HWY_ATTR { lanes.store(exp(hn::Sub(lanes.load(y + i), set(top))), y + i); });
  divide(y, n, sum(y, n));
}

inline void activate(fb::Activation activation, const float* x, int64_t n, float* y) {
  with_activation(activation, [&](auto act) HWY_ATTR {
    for_lanes(n, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(act(lanes.load(x + i)), y + i); });
  });
}

// One head's channels after activation and norm.
inline void map_head(const fb::HeadMapT& map, const float* x, int64_t n, float* y) {
  activate(map.activation, x, n, y);
  switch (map.norm) {
    case fb::HeadNorm::None:
      return;
    case fb::HeadNorm::L2: {
      const float squares = dot(y, y, n) + map.epsilon;
      if (squares != 0) divide(y, n, __builtin_sqrtf(squares));
      return;
    }
    case fb::HeadNorm::Softmax:
      return softmax(y, n);
    case fb::HeadNorm::Sum:
      return divide(y, n, sum(y, n) + map.epsilon);
  }
}

// ---- a state in memory: f32, or f16 that every token rounds to ------------------------------------------

// f(states) with the pointer of the type that the state is kept in.
template <typename F>
HWY_INLINE void with_state(const Tensor& state, const F& f) {
  if (state.dtype == DType::kF16)
    f(state.as<uint16_t>());
  else
    f(state.as());
}

template <typename A>
HWY_INLINE FloatVec load_state(A access, const float* p) {
  return access.load(p);
}
// Returns what is kept of v: tokens after this one find the same whether they come in this call or a later
// one.
template <typename A>
HWY_INLINE FloatVec store_state(A access, FloatVec v, float* p) {
  access.store(v, p);
  return v;
}

#if LINNET_NATIVE_HALF_STATES
using HalfTag = hn::Rebind<hwy::float16_t, FloatTag>;
HWY_INLINE FloatVec load_state(Whole, const uint16_t* p) {
  return hn::PromoteTo(FloatTag(), hn::LoadU(HalfTag(), reinterpret_cast<const hwy::float16_t*>(p)));
}
HWY_INLINE FloatVec store_state(Whole, FloatVec v, uint16_t* p) {
  const auto half = hn::DemoteTo(HalfTag(), v);
  hn::StoreU(half, HalfTag(), reinterpret_cast<hwy::float16_t*>(p));
  return hn::PromoteTo(FloatTag(), half);
}
HWY_INLINE FloatVec load_state(Part access, const uint16_t* p) {
  uint16_t lanes[HWY_LANES(float)] = {};
  __builtin_memcpy(lanes, p, access.n * sizeof(uint16_t));
  return load_state(Whole(), lanes);
}
HWY_INLINE FloatVec store_state(Part access, FloatVec v, uint16_t* p) {
  uint16_t lanes[HWY_LANES(float)];
  const auto kept = store_state(Whole(), v, lanes);
  __builtin_memcpy(p, lanes, access.n * sizeof(uint16_t));
  return kept;
}
#else
HWY_INLINE size_t lanes_in(Whole) { return static_cast<size_t>(kLanes); }
HWY_INLINE size_t lanes_in(Part access) { return access.n; }
template <typename A>
HWY_INLINE FloatVec load_state(A access, const uint16_t* p) {
  float lanes[HWY_LANES(float)] = {};
  const size_t n = lanes_in(access);
  for (size_t i = 0; i < n; ++i) lanes[i] = f16_to_f32(p[i]);
  return Whole::load(lanes);
}
template <typename A>
HWY_INLINE FloatVec store_state(A access, FloatVec v, uint16_t* p) {
  float lanes[HWY_LANES(float)];
  Whole::store(v, lanes);
  const size_t n = lanes_in(access);
  for (size_t i = 0; i < n; ++i) {
    p[i] = f32_to_f16(lanes[i]);
    lanes[i] = f16_to_f32(p[i]);
  }
  return Whole::load(lanes);
}
#endif

// ---- passes over a tile of a state ----------------------------------------------------------------------

template <int N>
struct TileOf {
  static constexpr int kVectors = N;
};
// f(access, tile, column): all columns [begin, end) in tiles of tile.kVectors vectors: as many of
// kWideVectors as fit, then of half that, down to kTileVectors, then single vectors, then the rest.
template <int kWideVectors = kTileVectors, typename F>
HWY_INLINE void for_columns(int64_t begin, int64_t end, const F& f) {
  static_assert(kWideVectors % kTileVectors == 0);
  int64_t c = begin;
  for (; c + kWideVectors * kLanes <= end; c += kWideVectors * kLanes) f(Whole(), TileOf<kWideVectors>(), c);
  if constexpr (kWideVectors > kTileVectors) {
    for_columns<kWideVectors / 2>(c, end, f);
  } else {
    for (; c + kLanes <= end; c += kLanes) f(Whole(), TileOf<1>(), c);
    if (c < end) f(Part{static_cast<size_t>(end - c)}, TileOf<1>(), c);
  }
}

HWY_INLINE FloatVec limited(FloatVec u) {
  const auto most = set(host::kMostWrite), least = set(-host::kMostWrite);
  return hn::IfThenElse(hn::Gt(u, most), most, hn::IfThenElse(hn::Lt(u, least), least, u));  // NaN passes
}

// A head's tokens as a delta rule passes them over its state:
//   r = S^T a, y = S^T b;  x = alpha (v - r) or, with a second write, x = v and w = -r (both limited);
//   o = scale (y + weight x + second_weight w);  S <- diag(f) S + k x^T (+ c w^T)
// b has been multiplied by f and a too where it reads the decayed state. One pass writes a token and reads
// for the next, so that a token costs one load and one store of the state.
template <typename S>
struct DeltaPass {
  MixerRecord layout;
  const float* records;  // scalars: alpha, weight, second_weight
  int64_t tokens, key_dim, value_dim;
  S* state;          // S [K, V]
  float* out;        // of the first token
  int64_t out_step;  // floats from a token's output to the next
  float scale;
};

template <int N, bool kSecond, typename S, typename A>
void delta_tile(const DeltaPass<S>& p, A access, int64_t column) {
  const int64_t K = p.key_dim, V = p.value_dim;
  const MixerRecord& at = p.layout;
  S* const state = p.state + column;
  FloatVec r[N], y[N], x[N], w[N];
  LINNET_UNROLL
  for (int n = 0; n < N; ++n) r[n] = y[n] = hn::Zero(FloatTag());
  const float* record = p.records;
  for (int64_t i = 0; i < K; ++i) {
    const auto a = set(record[at.read_key + i]), b = set(record[at.query + i]);
    LINNET_UNROLL
    for (int n = 0; n < N; ++n) {
      const auto s = load_state(access, state + i * V + n * kLanes);
      r[n] = hn::MulAdd(a, s, r[n]);
      y[n] = hn::MulAdd(b, s, y[n]);
    }
  }
  for (int64_t t = 0; t < p.tokens; ++t, record += at.floats) {
    const float* scalars = record + at.scalars;
    const auto weight = set(scalars[1]);
    LINNET_UNROLL
    for (int n = 0; n < N; ++n) {
      const auto v = access.load(record + at.value + column + n * kLanes);
      auto o = y[n];
      if constexpr (kSecond) {
        x[n] = v;
        w[n] = hn::Neg(limited(r[n]));
        o = hn::MulAdd(set(scalars[2]), w[n], o);
      } else {
        x[n] = limited(hn::Mul(set(scalars[0]), hn::Sub(v, r[n])));
      }
      o = hn::Mul(hn::MulAdd(weight, x[n], o), set(p.scale));
      access.store(o, p.out + t * p.out_step + column + n * kLanes);
      r[n] = y[n] = hn::Zero(FloatTag());
    }
    const bool last = t + 1 == p.tokens;
    const float* next = last ? record : record + at.floats;  // the last token's sums are not used
    for (int64_t i = 0; i < K; ++i) {
      const auto f = set(record[at.factor + i]), k = set(record[at.key + i]);
      const auto a = set(next[at.read_key + i]), b = set(next[at.query + i]);
      LINNET_UNROLL
      for (int n = 0; n < N; ++n) {
        auto s = hn::Mul(f, load_state(access, state + i * V + n * kLanes));
        if constexpr (kSecond) s = hn::MulAdd(set(record[at.second_key + i]), w[n], s);
        s = hn::MulAdd(k, x[n], s);
        s = store_state(access, s, state + i * V + n * kLanes);
        r[n] = hn::MulAdd(a, s, r[n]);
        y[n] = hn::MulAdd(b, s, y[n]);
      }
    }
  }
}

template <bool kSecond, typename S>
void delta_columns(const DeltaPass<S>& p, int64_t begin, int64_t end) {
  for_columns(begin, end, [&](auto access, auto tile, int64_t column) HWY_ATTR {
    delta_tile<decltype(tile)::kVectors, kSecond>(p, access, column);
  });
}

// The record of one token of a delta rule whose state decays before it is read; key and query are mapped, and
// factor is filled in.
inline void finish_delta_record(const MixerRecord& at, int64_t key_dim, float beta, float* record) {
  float* scalars = record + at.scalars;
  scalars[0] = beta;
  scalars[1] = dot(record + at.query, record + at.key, key_dim);
  for_lanes(key_dim, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto f = lanes.load(record + at.factor + i);
    lanes.store(hn::Mul(f, lanes.load(record + at.key + i)), record + at.read_key + i);
    lanes.store(hn::Mul(f, lanes.load(record + at.query + i)), record + at.query + i);
  });
}

// Heads over the threads, cut into tiles of columns where they are few: f(thread, head, first column, last
// column). What a head's tiles share is prepared again by every thread that has some of them.
template <typename F>
void for_heads(const KernelContext& c, int64_t heads, int64_t key_dim, int64_t value_dim, bool whole_heads,
               const F& f) {
  const int64_t tokens = c.in[0].dims[0];
  if (whole_heads || heads >= 4 * c.threads)
    return c.pool->parallel_for_pieces(heads, 32768 / (tokens * key_dim * value_dim) + 1,
                                       [&](int thread, int64_t begin, int64_t end) {
                                         for (; begin < end; ++begin) f(thread, begin, 0, value_dim);
                                       });
  const int64_t tiles = (value_dim + kTileColumns - 1) / kTileColumns;
  const int64_t grain = 32768 / (tokens * key_dim * kTileColumns) + 1;
  c.pool->parallel_for_thread(heads * tiles, grain, [&](int thread, int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t head = begin / tiles, last = end < (head + 1) * tiles ? end : (head + 1) * tiles;
      const int64_t first_column = (begin - head * tiles) * kTileColumns;
      int64_t last_column = (last - head * tiles) * kTileColumns;
      if (last_column > value_dim) last_column = value_dim;
      f(thread, head, first_column, last_column);
      begin = last;
    }
  });
}

// Brings a head's state near, line after line, by loads: tiles of columns walk it in strides, of which a
// hardware prefetcher makes little, and prefetch instructions do not set it going. A step over
// states of 16 to 64 KiB takes a quarter less time with it.
template <typename S>
void bring_state(const S* state, int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(S));
  if (bytes > 256 * 1024) return;  // would push itself out
  const auto* lines = reinterpret_cast<const volatile char*>(state);
  for (int64_t i = 0; i < bytes; i += 64) static_cast<void>(lines[i]);
}

// All heads of a delta rule, the tokens in blocks: prepare(token, head, record) fills the records of a block,
// after(records, first token, tokens, head, first column, last column) follows its pass over the state.
template <bool kSecond, typename P, typename F>
void run_delta_heads(const KernelContext& c, const MixerRecord& at, int64_t tokens, int64_t heads,
                     int64_t key_dim, int64_t value_dim, float scale, const P& prepare, const F& after) {
  with_state(c.states[0], [&](auto* states) HWY_ATTR {
    for_heads(c, heads, key_dim, value_dim, false,
              [&](int thread, int64_t h, int64_t first_column, int64_t last_column) HWY_ATTR {
                float* records = reinterpret_cast<float*>(c.scratch) + thread * at.floats * at.block;
                DeltaPass<std::remove_pointer_t<decltype(states)>> pass{
                    at,      records,           0,    key_dim, value_dim, states + h * key_dim * value_dim,
                    nullptr, heads * value_dim, scale};
                if (last_column - first_column == value_dim) bring_state(pass.state, key_dim * value_dim);
                for (int64_t t = 0; t < tokens; t += at.block) {
                  pass.tokens = tokens - t < at.block ? tokens - t : at.block;
                  for (int64_t i = 0; i < pass.tokens; ++i) prepare(t + i, h, records + i * at.floats);
                  pass.out = c.out[0].as() + (t * heads + h) * value_dim;
                  delta_columns<kSecond>(pass, first_column, last_column);
                  after(records, t, pass.tokens, h, first_column, last_column);
                }
              });
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
