// One block of keys against some query rows: scores, softmax within the block, weighted sum of values.
// Compiled once per Highway target.
//
// What a row gets from a block depends on that row, on its keys in the block and on nothing else: not on the
// other rows, so that one token and a chunk of tokens have the same bits. A dot product adds lane by lane
// over the channels and then over the lanes in a fixed tree; the sum of values adds key by key.

#if defined(LINNET_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINNET_ATTENTION_INL_H_
#undef LINNET_ATTENTION_INL_H_
#else
#define LINNET_ATTENTION_INL_H_
#endif

#include "backends/cpu/vector_math_inl.h"

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

inline constexpr int64_t kBlockKeys = 64;  // a multiple of 4 and of kLanes
inline constexpr float kLowest = -3.40282347e+38f;

#if HWY_CAP_GE512 || HWY_ARCH_ARM_A64  // 32 registers
inline constexpr int kMostRows = 6, kMostValues = 4;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kMostRows = 2, kMostValues = 4;
#else
inline constexpr int kMostRows = 3, kMostValues = 4;
#endif

// Keys or values of a block as f32 rows, row j at data + j * stride, whole vectors readable.
struct BlockRows {
  const float* data;
  int64_t stride;
};

// The four sums over lanes of a, b, c, d, to out[0..3].
HWY_INLINE void sums_of_four(FloatVec a, FloatVec b, FloatVec c, FloatVec d, float* out) {
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a);
  out[1] = hn::GetLane(b);
  out[2] = hn::GetLane(c);
  out[3] = hn::GetLane(d);
#else
  const FloatTag tag;
  const hn::RepartitionToWide<FloatTag> wide;
  const auto ab = hn::BitCast(wide, hn::Add(hn::InterleaveLower(tag, a, b), hn::InterleaveUpper(tag, a, b)));
  const auto cd = hn::BitCast(wide, hn::Add(hn::InterleaveLower(tag, c, d), hn::InterleaveUpper(tag, c, d)));
  const auto sums = hn::Add(hn::BitCast(tag, hn::InterleaveLower(wide, ab, cd)),
                            hn::BitCast(tag, hn::InterleaveUpper(wide, ab, cd)));
  if constexpr (kLanes == 4) {
    hn::StoreU(sums, tag, out);
  } else {
    const hn::Half<FloatTag> half;
    const auto folded = hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums));
    if constexpr (kLanes == 8) {
      hn::StoreU(folded, half, out);
    } else {
      const hn::Half<decltype(half)> quarter;
      hn::StoreU(hn::Add(hn::LowerHalf(quarter, folded), hn::UpperHalf(quarter, folded)), quarter, out);
    }
  }
#endif
}

// scores[r][j] = q[r] . k[j] for Rows rows and four keys; q has `channels` floats per row, a multiple of
// kLanes.
template <int Rows>
HWY_INLINE void score_four(const float* q, int64_t channels, const float* const (&k)[4], float* scores) {
  const FloatTag d;
  FloatVec sum[Rows][4];
  LINNET_UNROLL for (int r = 0; r < Rows; ++r) LINNET_UNROLL for (int j = 0; j < 4; ++j) sum[r][j] =
      hn::Zero(d);
  for (int64_t i = 0; i < channels; i += kLanes) {
    FloatVec row[Rows];
    LINNET_UNROLL for (int r = 0; r < Rows; ++r) row[r] = hn::LoadU(d, q + r * channels + i);
    LINNET_UNROLL for (int j = 0; j < 4; ++j) {
      const auto key = hn::LoadU(d, k[j] + i);
      LINNET_UNROLL for (int r = 0; r < Rows; ++r) sum[r][j] = hn::MulAdd(row[r], key, sum[r][j]);
    }
  }
  LINNET_UNROLL for (int r = 0; r < Rows; ++r)
      sums_of_four(sum[r][0], sum[r][1], sum[r][2], sum[r][3], scores + r * kBlockKeys);
}

template <int Rows>
HWY_INLINE void score_rows(const float* q, int64_t channels, int64_t rows, const float* const (&k)[4],
                           float* scores) {
  for (; rows >= Rows; rows -= Rows, q += Rows * channels, scores += Rows * kBlockKeys)
    score_four<Rows>(q, channels, k, scores);
  if constexpr (Rows > 1) score_rows<Rows - 1>(q, channels, rows, k, scores);
}

// Scores of all rows against n <= kBlockKeys keys, kBlockKeys floats per row; those beyond n are undefined.
HWY_INLINE void score_block(const float* q, int64_t channels, int64_t rows, BlockRows keys, int64_t n,
                            float* scores) {
  for (int64_t j = 0; j < n; j += 4) {
    const float* k[4];
    for (int64_t i = 0; i < 4; ++i) k[i] = keys.data + (j + i < n ? j + i : n - 1) * keys.stride;
    score_rows<kMostRows>(q, channels, rows, k, scores + j);
  }
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
      const auto weight = hn::Set(d, weights[r * kBlockKeys + j]);
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

template <int Rows>
HWY_INLINE void add_values_rows(const float* weights, BlockRows values, int64_t n, int64_t channels,
                                int64_t rows, const float* keep, const float* take, float* total) {
  for (; rows >= Rows;
       rows -= Rows, weights += Rows * kBlockKeys, keep += Rows, take += Rows, total += Rows * channels) {
    int64_t c = 0;
    for (; c + kMostValues * kLanes <= channels; c += kMostValues * kLanes)
      add_values_tile<Rows, kMostValues>(weights, {values.data + c, values.stride}, n, keep, take, total + c,
                                         channels);
    for (; c < channels; c += kLanes)
      add_values_tile<Rows, 1>(weights, {values.data + c, values.stride}, n, keep, take, total + c, channels);
  }
  if constexpr (Rows > 1) add_values_rows<Rows - 1>(weights, values, n, channels, rows, keep, take, total);
}

// The same for all rows; `channels` is a multiple of kLanes.
HWY_INLINE void add_values(const float* weights, BlockRows values, int64_t n, int64_t channels, int64_t rows,
                           const float* keep, const float* take, float* total) {
  add_values_rows<kMostRows>(weights, values, n, channels, rows, keep, take, total);
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
