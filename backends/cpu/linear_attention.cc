#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/linear_attention.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "backends/cpu/vector_math_inl.h"

// Sums S = sum f(k) v^T and z = sum f(k) over chunks of keys, added in the order of the chunks; then each
// query's f(q)^T S / (f(q).z + epsilon). Where a chunk begins depends on the number of keys alone, so the
// result does not depend on the number of threads.

#ifndef LINNET_CPU_LINEAR_ATTENTION_LAYOUT  // once for all targets
#define LINNET_CPU_LINEAR_ATTENTION_LAYOUT
namespace linnet::cpu {
namespace {

inline constexpr int64_t kMostChunks = 16, kFewestKeys = 256;
inline constexpr int64_t kTile = 32;  // rows whose features are held at once

struct LinearAttentionLayout {
  int64_t keys, chunk, chunks;
  int64_t state;  // floats of S [K, V in whole vectors] and z [K]
  int64_t value_pad, key_pad;
  int64_t thread_floats;  // features of a tile and one row of sums
};
LinearAttentionLayout linear_attention_layout(const KernelContext& c) {
  const auto& args = c.args<fb::LinearAttentionT>();
  LinearAttentionLayout l{};
  l.keys = c.in[args.interleaved ? 0 : 1].rows();
  l.chunk = std::max(kFewestKeys, (l.keys + kMostChunks - 1) / kMostChunks);
  l.chunks = std::max<int64_t>(1, (l.keys + l.chunk - 1) / l.chunk);
  l.value_pad = (args.value_dim + 15) / 16 * 16;
  l.key_pad = (args.head_dim + 15) / 16 * 16;
  l.state = args.head_dim * l.value_pad + l.key_pad;
  l.thread_floats = kTile * l.key_pad + kTile * l.value_pad;
  return l;
}
size_t linear_attention_scratch(const KernelContext& c) {
  const LinearAttentionLayout l = linear_attention_layout(c);
  // Chunks at the bounds are as many as at any smaller size, and a state's size does not change.
  const int64_t states = c.args<fb::LinearAttentionT>().heads * kMostChunks * l.state;
  return static_cast<size_t>(states + c.threads * l.thread_floats) * sizeof(float);
}

// Row r of a head, wherever its input is.
struct HeadRows {
  const float* data;
  int64_t stride;
  const float* row(int64_t r) const { return data + r * stride; }
};
// part 0: q, 1: k, 2: v.
HeadRows head_rows(const KernelContext& c, int64_t head, int part) {
  const auto& args = c.args<fb::LinearAttentionT>();
  if (!args.interleaved) {
    const int64_t size = part == 2 ? args.value_dim : args.head_dim;
    const Tensor& x = c.in[static_cast<size_t>(part)];
    return {x.as() + head * size, x.channels()};
  }
  const int64_t size = 2 * args.head_dim + args.value_dim;
  size_t i = 0;
  for (; head >= c.in[i].channels() / size; ++i) head -= c.in[i].channels() / size;
  return {c.in[i].as() + head * size + part * args.head_dim, c.in[i].channels()};
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// f of rows [begin, end), to rows of `pad` floats.
void features(fb::Activation activation, const HeadRows& x, int64_t begin, int64_t end, int64_t n,
              int64_t pad, float* out) {
  with_activation(activation, [&](auto act) HWY_ATTR {
    for (int64_t r = begin; r < end; ++r, out += pad)
      for_lanes(n,
                [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(act(lanes.load(x.row(r) + i)), out + i); });
  });
}

// S and z of keys [begin, end), which are at most kTile, added to `state`. Four keys meet a row of S at once.
void add_keys(const LinearAttentionLayout& l, const float* f, const HeadRows& v, int64_t begin, int64_t end,
              int64_t K, int64_t V, float* state) {
  float* z = state + K * l.value_pad;
  int64_t r = begin;
  const auto add = [&](auto count) HWY_ATTR {
    constexpr int kCount = decltype(count)::value;
    for (int64_t i = 0; i < K; ++i) {
      FloatVec k[kCount];
      LINNET_UNROLL for (int n = 0; n < kCount; ++n) k[n] = set(f[(r - begin + n) * l.key_pad + i]);
      float* s = state + i * l.value_pad;
      for_lanes(V, [&](auto lanes, int64_t j) HWY_ATTR {
        auto sum = lanes.load(s + j);
        LINNET_UNROLL for (int n = 0; n < kCount; ++n) sum =
            hn::MulAdd(k[n], lanes.load(v.row(r + n) + j), sum);
        lanes.store(sum, s + j);
      });
    }
    for_lanes(K, [&](auto lanes, int64_t i) HWY_ATTR {
      auto sum = lanes.load(z + i);
      LINNET_UNROLL for (int n = 0; n < kCount; ++n) sum =
          hn::Add(sum, lanes.load(f + (r - begin + n) * l.key_pad + i));
      lanes.store(sum, z + i);
    });
    r += kCount;
  };
  while (r + 4 <= end) add(std::integral_constant<int, 4>());
  while (r < end) add(std::integral_constant<int, 1>());
}

// Outputs of queries [begin, end), at most kTile, whose features are at f.
void read_state(const LinearAttentionLayout& l, const float* f, const float* state, int64_t begin,
                int64_t end, int64_t K, int64_t V, float epsilon, const HeadRows& out) {
  const float* z = state + K * l.value_pad;
  int64_t r = begin;
  const auto read = [&](auto count) HWY_ATTR {
    constexpr int kCount = decltype(count)::value;
    const float* q = f + (r - begin) * l.key_pad;
    FloatVec inverse[kCount];
    LINNET_UNROLL for (int n = 0; n < kCount; ++n) {
      auto sum = hn::Zero(FloatTag());
      for_lanes(K, [&](auto lanes, int64_t i) HWY_ATTR {
        sum = hn::MulAdd(lanes.load(q + n * l.key_pad + i), lanes.load(z + i), sum);
      });
      inverse[n] = set(1.0f / (sum_of_lanes(sum) + epsilon));
    }
    for_lanes(V, [&](auto lanes, int64_t j) HWY_ATTR {
      FloatVec sum[kCount];
      LINNET_UNROLL for (int n = 0; n < kCount; ++n) sum[n] = hn::Zero(FloatTag());
      for (int64_t i = 0; i < K; ++i) {
        const auto s = lanes.load(state + i * l.value_pad + j);
        LINNET_UNROLL for (int n = 0; n < kCount; ++n) sum[n] =
            hn::MulAdd(set(q[n * l.key_pad + i]), s, sum[n]);
      }
      LINNET_UNROLL for (int n = 0; n < kCount; ++n)
          lanes.store(hn::Mul(sum[n], inverse[n]), const_cast<float*>(out.row(r + n)) + j);
    });
    r += kCount;
  };
  while (r + 4 <= end) read(std::integral_constant<int, 4>());
  while (r < end) read(std::integral_constant<int, 1>());
}

void run_linear_attention(const KernelContext& c) {
  const auto& args = c.args<fb::LinearAttentionT>();
  const LinearAttentionLayout l = linear_attention_layout(c);
  const int64_t heads = args.heads, K = args.head_dim, V = args.value_dim, rows = c.in[0].rows();
  auto* states = reinterpret_cast<float*>(c.scratch);
  float* buffers = states + heads * kMostChunks * l.state;
  c.pool->parallel_for_pieces(heads * l.chunks, 1, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
    float* buffer = buffers + thread * l.thread_floats;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / l.chunks, first = item % l.chunks * l.chunk;
      const int64_t last = first + l.chunk < l.keys ? first + l.chunk : l.keys;
      const HeadRows k = head_rows(c, head, 1), v = head_rows(c, head, 2);
      float* state = states + item * l.state;
      for (int64_t i = 0; i < l.state; ++i) state[i] = 0;
      for (int64_t r = first; r < last; r += kTile) {
        const int64_t to = r + kTile < last ? r + kTile : last;
        features(args.activation, k, r, to, K, l.key_pad, buffer);
        add_keys(l, buffer, v, r, to, K, V, state);
      }
    }
  });
  c.pool->parallel_for(heads, 65536 / (l.chunks * l.state) + 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t head = begin; head < end; ++head) {
      float* total = states + head * l.chunks * l.state;
      for (int64_t n = 1; n < l.chunks; ++n)
        for_lanes(l.state, [&](auto lanes, int64_t i) HWY_ATTR {
          lanes.store(hn::Add(lanes.load(total + i), lanes.load(total + n * l.state + i)), total + i);
        });
    }
  });
  const int64_t tiles = (rows + kTile - 1) / kTile;
  c.pool->parallel_for_pieces(
      heads * tiles, 65536 / (kTile * K * V) + 1, [&](int thread, int64_t begin, int64_t end) HWY_ATTR {
        float* buffer = buffers + thread * l.thread_floats;
        for (int64_t item = begin; item < end; ++item) {
          const int64_t head = item / tiles, first = item % tiles * kTile;
          const int64_t last = first + kTile < rows ? first + kTile : rows;
          features(args.activation, head_rows(c, head, 0), first, last, K, l.key_pad, buffer);
          const HeadRows out{c.out[0].as() + head * V, heads * V};
          read_state(l, buffer, states + head * l.chunks * l.state, first, last, K, V, args.epsilon, out);
        }
      });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
Kernel kernel_linear_attention(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_linear_attention), linear_attention_scratch};
}
}  // namespace linnet::cpu
#endif
