#include <algorithm>
#include <cmath>

#include "backends/host/embeddings.h"
#include "backends/reference/kernels.h"

namespace linnet::reference {
namespace {

// Softmax over `scores` (length n) and the weighted sum of values fetched by `value_of(j)`.
template <typename ValueOf>
void mix(std::vector<double>& scores, int64_t value_dim, const ValueOf& value_of, float* out) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - most);
  std::vector<double> total(static_cast<size_t>(value_dim));
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* v = value_of(j);
    for (int64_t i = 0; i < value_dim; ++i)
      total[static_cast<size_t>(i)] += scores[j] * static_cast<double>(v[i]);
  }
  for (int64_t i = 0; i < value_dim; ++i) out[i] = static_cast<float>(total[static_cast<size_t>(i)] / sum);
}

double capped(double score, float softcap) {
  const auto cap = static_cast<double>(softcap);
  return softcap > 0 ? cap * std::tanh(score / cap) : score;
}

// Attention sinks (StreamingLLM, Xiao et al. 2023): once the window has moved past them, the sinks' keys are
// seen at the distance they have inside the cache, not in the text. Rotations add, so turning the query back
// by the difference is the same as moving the sinks.
void causal(const KernelContext& c) {
  const auto& args = c.args<fb::SoftmaxAttentionT>();
  const plan::Ring& ring = c.ring;
  const int64_t d = args.head_dim, dv = args.value_dim, heads = args.heads, kv_heads = args.kv_heads;
  const Tensor &keys = c.states[0], &values = c.states[1];
  const size_t key_row = host::cache_row_bytes(keys.dtype, kv_heads * d);
  const size_t value_row = host::cache_row_bytes(values.dtype, kv_heads * dv);
  const int64_t tokens = c.in[0].dims[0];
  for (int64_t t = 0; t < tokens; ++t) {
    const auto slot = static_cast<size_t>(host::ring_slot(ring, c.position + t));
    host::store_cache_row(keys.dtype, c.in[1].as() + t * kv_heads * d, kv_heads * d,
                          keys.data + slot * key_row);
    host::store_cache_row(values.dtype, c.in[2].as() + t * kv_heads * dv, kv_heads * dv,
                          values.data + slot * value_row);
  }
  std::vector<float> q(static_cast<size_t>(d)), turned(static_cast<size_t>(d)), k(static_cast<size_t>(d)),
      v(static_cast<size_t>(dv));
  std::vector<double> scores;
  std::vector<int64_t> seen;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t p = c.position + t;
    seen.clear();
    for (int64_t j = 0; j < std::min(ring.sinks, p + 1); ++j) seen.push_back(j);
    for (int64_t j = std::max(ring.sinks, p - ring.window + 1); j <= p; ++j) seen.push_back(j);
    const int64_t cache_position = std::min(p, ring.sinks + ring.window - 1);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / kv_heads);
      std::copy_n(c.in[0].as() + (t * heads + h) * d, d, q.begin());
      turned = q;
      if (args.rope && cache_position != p)
        host::rotate_head(*args.rope, static_cast<double>(cache_position - p), 1.0f, turned.data());
      scores.clear();
      for (const int64_t j : seen) {
        host::load_cache_row(keys.dtype, keys.data + static_cast<size_t>(host::ring_slot(ring, j)) * key_row,
                             kv * d, d, k.data());
        const double score =
            dot(j < ring.sinks ? turned.data() : q.data(), k.data(), d) * static_cast<double>(args.scale);
        scores.push_back(capped(score, args.softcap));
      }
      mix(
          scores, dv,
          [&](size_t i) {
            const auto slot = static_cast<size_t>(host::ring_slot(ring, seen[i]));
            host::load_cache_row(values.dtype, values.data + slot * value_row, kv * dv, dv, v.data());
            return v.data();
          },
          c.out[0].as() + (t * heads + h) * dv);
    }
  }
}

void bidirectional(const KernelContext& c) {
  const auto& args = c.args<fb::SoftmaxAttentionT>();
  const int64_t d = args.head_dim, dv = args.value_dim, heads = args.heads, kv_heads = args.kv_heads;
  const int64_t queries = c.in[0].rows(), length = c.in[1].rows();
  const float* bias = c.weights.empty() ? nullptr : c.weights[0].as();
  std::vector<int64_t> seen;
  const float* mask = c.in.size() > 4 ? c.in[4].as() : nullptr;
  for (int64_t j = 0; j < length; ++j)
    if (!mask || mask[j] != 0) seen.push_back(j);
  const bool none = seen.empty();  // then every key weighs the same
  for (int64_t j = 0; none && j < length; ++j) seen.push_back(j);
  std::vector<double> scores;
  for (int64_t t = 0; t < queries; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / kv_heads);
      scores.clear();
      for (const int64_t j : seen) {
        const double score =
            dot(c.in[0].as() + (t * heads + h) * d, c.in[1].as() + (j * kv_heads + kv) * d, d);
        scores.push_back(capped(score * static_cast<double>(args.scale), args.softcap));
        if (bias) scores.back() += static_cast<double>(bias[host::relative_bucket(args, j - t) * heads + h]);
        if (none) scores.back() = 0;
      }
      mix(
          scores, dv, [&](size_t i) { return c.in[2].as() + (seen[i] * kv_heads + kv) * dv; },
          c.out[0].as() + (t * heads + h) * dv);
    }
  }
}

void run(const KernelContext& c) {
  const auto& args = c.args<fb::SoftmaxAttentionT>();
  if (args.mask == fb::AttentionMask::Causal)
    causal(c);
  else
    bidirectional(c);
  if (c.in.size() > 3 && c.in[3])
    for (int64_t i = 0; i < c.out[0].elements(); ++i)
      c.out[0].as()[i] *= host::activate(args.gate_activation, c.in[3].as()[i]);
}

}  // namespace

Kernel kernel_softmax_attention() { return {run, nullptr}; }

}  // namespace linnet::reference
