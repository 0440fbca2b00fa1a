// One block of keys against some query rows: scores, softmax within the block, weighted sum of values.
// Compiled once per Highway target.
//
// What a row gets from a block depends on that row, on its keys in the block and on nothing else: not on the
// other rows, so that one token and a chunk of tokens have the same bits. A score adds channel by channel
// (keys are lanes), the sum of values key by key (channels are lanes), each one fused multiply-add after
// another.

#if defined(LINNET_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_ATTENTION_INL_H_
#undef LINNET_ATTENTION_INL_H_
#else
#define LINNET_ATTENTION_INL_H_
#endif

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

inline constexpr int64_t kBlockKeys = 64;  // a multiple of all lane counts
// Floats from one row of scores to the next: a row's keys may begin anywhere and are padded to whole vectors.
inline constexpr int64_t kScoreStride = kBlockKeys + 16;
inline constexpr float kLowest = -3.40282347e+38f;

// Sums that are kept in registers: rows times vectors. Few rows take more vectors, to hide the latency of
// multiply-adds.
inline constexpr int kMostRows = 6;
#if HWY_CAP_GE512 || HWY_ARCH_ARM_A64  // 32 registers
constexpr int vectors_for(int) { return 4; }
#else
constexpr int vectors_for(int rows) { return rows > 3 ? 2 : 4; }
#endif

// Rows of f32, row j at data + j * stride, whole vectors readable.
struct BlockRows {
  const float* data;
  int64_t stride;
};

// transposed[c][j] = keys[j][c] for n <= kBlockKeys keys, kBlockKeys floats per channel; channels in fours.
// Lanes beyond the last key repeat it.
HWY_INLINE void transpose_keys(BlockRows keys, int64_t n, int64_t channels, float* transposed) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t j = 0; j < n; ++j)
    for (int64_t c = 0; c < channels; ++c) transposed[c * kBlockKeys + j] = keys.data[j * keys.stride + c];
#else
  const FloatTag d;
  const hn::RepartitionToWide<FloatTag> wide;
  const auto wide_lower = [&](FloatVec a, FloatVec b) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, a), hn::BitCast(wide, b)));
  };
  const auto wide_upper = [&](FloatVec a, FloatVec b) HWY_ATTR {
    return hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, a), hn::BitCast(wide, b)));
  };
  for (int64_t j = 0; j < n; j += kLanes) {
    const float* key[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) key[l] = keys.data + (j + l < n ? j + l : n - 1) * keys.stride;
    // Four channels of keys m, m + 4, m + 8, ... as the 128-bit blocks of a vector.
    const auto blocks = [&](int64_t m, int64_t c) HWY_ATTR {
      if constexpr (kLanes == 4) {
        return hn::LoadU(d, key[m] + c);
      } else {
        const hn::Half<FloatTag> half;
        if constexpr (kLanes == 8) {
          return hn::Combine(d, hn::LoadU(half, key[m + 4] + c), hn::LoadU(half, key[m] + c));
        } else {
          const hn::Half<decltype(half)> quarter;
          const auto low =
              hn::Combine(half, hn::LoadU(quarter, key[m + 4] + c), hn::LoadU(quarter, key[m] + c));
          const auto high =
              hn::Combine(half, hn::LoadU(quarter, key[m + 12] + c), hn::LoadU(quarter, key[m + 8] + c));
          return hn::Combine(d, high, low);
        }
      }
    };
    for (int64_t c = 0; c < channels; c += 4) {
      const auto k0 = blocks(0, c), k1 = blocks(1, c), k2 = blocks(2, c), k3 = blocks(3, c);
      const auto a = hn::InterleaveLower(d, k0, k1), b = hn::InterleaveUpper(d, k0, k1);
      const auto e = hn::InterleaveLower(d, k2, k3), f = hn::InterleaveUpper(d, k2, k3);
      float* to = transposed + c * kBlockKeys + j;
      hn::StoreU(wide_lower(a, e), d, to);
      hn::StoreU(wide_upper(a, e), d, to + kBlockKeys);
      hn::StoreU(wide_lower(b, f), d, to + 2 * kBlockKeys);
      hn::StoreU(wide_upper(b, f), d, to + 3 * kBlockKeys);
    }
  }
#endif
}

template <int Rows, int Vectors>
HWY_INLINE void score_tile(const float* q, int64_t q_stride, int64_t channels, const float* keys,
                           float* scores) {
  const FloatTag d;
  FloatVec sum[Rows][Vectors];
  LINNET_UNROLL for (int r = 0; r < Rows; ++r) LINNET_UNROLL for (int v = 0; v < Vectors; ++v) sum[r][v] =
      hn::Zero(d);
  for (int64_t c = 0; c < channels; ++c) {
    FloatVec key[Vectors];
    LINNET_UNROLL for (int v = 0; v < Vectors; ++v) key[v] = hn::LoadU(d, keys + c * kBlockKeys + v * kLanes);
    LINNET_UNROLL for (int r = 0; r < Rows; ++r) {
      const auto query = hn::Set(d, q[r * q_stride + c]);
      LINNET_UNROLL for (int v = 0; v < Vectors; ++v) sum[r][v] = hn::MulAdd(query, key[v], sum[r][v]);
    }
  }
  LINNET_UNROLL for (int r = 0; r < Rows; ++r) LINNET_UNROLL for (int v = 0; v < Vectors; ++v)
      hn::StoreU(sum[r][v], d, scores + r * kScoreStride + v * kLanes);
}

// scores[r][j] = q[r] . key j for the keys [begin, end) (and some beside them, up to whole vectors).
template <int Rows = kMostRows>
HWY_INLINE void score_block(const float* q, int64_t q_stride, int64_t channels, int64_t rows,
                            const float* keys, int64_t begin, int64_t end, float* scores) {
  constexpr int kVectors = vectors_for(Rows);
  const int64_t first = begin / kLanes * kLanes;
  for (; rows >= Rows; rows -= Rows, q += Rows * q_stride, scores += Rows * kScoreStride) {
    int64_t j = first;
    for (; j + (kVectors - 1) * kLanes < end; j += kVectors * kLanes)
      score_tile<Rows, kVectors>(q, q_stride, channels, keys + j, scores + j);
    for (; j < end; j += kLanes) score_tile<Rows, 1>(q, q_stride, channels, keys + j, scores + j);
  }
  if constexpr (Rows > 1) score_block<Rows - 1>(q, q_stride, channels, rows, keys, begin, end, scores);
}

// Turns n scores into e^(score - most), in place; returns their sum. softcap 0: none.
HWY_INLINE float softmax_row(float softcap, int64_t n, float* scores, float* most_out) {
  const FloatTag d;
  const int64_t padded = (n + kLanes - 1) / kLanes * kLanes;
  if (softcap > 0) {
    const auto cap = set(softcap);
    for (int64_t j = n; j < padded; ++j) scores[j] = 0;
    for (int64_t j = 0; j < padded; j += kLanes)
      hn::StoreU(hn::Mul(cap, tanh(hn::Div(hn::LoadU(d, scores + j), cap))), d, scores + j);
  }
  for (int64_t j = n; j < padded; ++j) scores[j] = -HUGE_VALF;
  auto most = hn::LoadU(d, scores);
  for (int64_t j = kLanes; j < padded; j += kLanes) most = hn::Max(most, hn::LoadU(d, scores + j));
  *most_out = max_of_lanes(most);
  const auto shift = set(*most_out);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += kLanes) {
    const auto e = exp(hn::Sub(hn::LoadU(d, scores + j), shift));
    hn::StoreU(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  return sum_of_lanes(sum);
}

// total[r] = total[r] * keep[r] + take[r] * sum over j of weights[r][j] * v[j], for Rows rows and Vectors
// vectors of channels.
template <int Rows, int Vectors>
HWY_INLINE void add_values_tile(const float* weights, BlockRows values, int64_t n, const float* keep,
                                const float* take, float* total, int64_t total_stride) {
  const FloatTag d;
  FloatVec sum[Rows][Vectors];
  LINNET_UNROLL for (int r = 0; r < Rows; ++r) LINNET_UNROLL for (int v = 0; v < Vectors; ++v) sum[r][v] =
      hn::Zero(d);
  for (int64_t j = 0; j < n; ++j) {
    FloatVec value[Vectors];
    LINNET_UNROLL for (int v = 0; v < Vectors; ++v) value[v] =
        hn::LoadU(d, values.data + j * values.stride + v * kLanes);
    LINNET_UNROLL for (int r = 0; r < Rows; ++r) {
      const auto weight = hn::Set(d, weights[r * kScoreStride + j]);
      LINNET_UNROLL for (int v = 0; v < Vectors; ++v) sum[r][v] = hn::MulAdd(weight, value[v], sum[r][v]);
    }
  }
  LINNET_UNROLL for (int r = 0; r < Rows; ++r) {
    const auto k = set(keep[r]), t = set(take[r]);
    LINNET_UNROLL for (int v = 0; v < Vectors; ++v) {
      float* to = total + r * total_stride + v * kLanes;
      hn::StoreU(hn::MulAdd(sum[r][v], t, hn::Mul(hn::LoadU(d, to), k)), d, to);
    }
  }
}

// The same for all rows; `channels` is a multiple of kLanes.
template <int Rows = kMostRows>
HWY_INLINE void add_values(const float* weights, BlockRows values, int64_t n, int64_t channels, int64_t rows,
                           const float* keep, const float* take, float* total) {
  constexpr int kVectors = vectors_for(Rows);
  for (; rows >= Rows; rows -= Rows) {
    int64_t c = 0;
    for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes)
      add_values_tile<Rows, kVectors>(weights, {values.data + c, values.stride}, n, keep, take, total + c,
                                      channels);
    for (; c < channels; c += kLanes)
      add_values_tile<Rows, 1>(weights, {values.data + c, values.stride}, n, keep, take, total + c, channels);
    weights += Rows * kScoreStride;
    keep += Rows;
    take += Rows;
    total += Rows * channels;
  }
  if constexpr (Rows > 1) add_values<Rows - 1>(weights, values, n, channels, rows, keep, take, total);
}

// Per-row quantities of several rows: running most and sum, a block's, and the factors that join them.
struct Rows {
  float *most, *sum, *block_most, *block_sum, *keep, *take;
};

// Online softmax takes in a block: most' = max(most, block_most), sum' = sum * keep + block_sum * take. The
// factors of all rows at once.
HWY_INLINE void join_rows(int64_t rows, const Rows& r) {
  for_lanes(rows, [&](auto lanes, int64_t i) HWY_ATTR {
    const auto old_most = lanes.load(r.most + i), new_most = lanes.load(r.block_most + i);
    const auto most = hn::Max(old_most, new_most);
    const auto keep = exp(hn::Sub(old_most, most)), take = exp(hn::Sub(new_most, most));
    lanes.store(most, r.most + i);
    lanes.store(keep, r.keep + i);
    lanes.store(take, r.take + i);
    lanes.store(hn::MulAdd(lanes.load(r.block_sum + i), take, hn::Mul(lanes.load(r.sum + i), keep)),
                r.sum + i);
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
