#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/mixture_of_memories.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/mixer_inl.h"
#include "backends/host/scalar.h"

// Memory after memory, a gated delta rule over the tokens that were routed to it. A piece of work is one head
// and some columns of its states; it adds up the memories of a token in the order of their numbers, so
// neither pieces nor threads change a bit. Convolutions read histories and tokens; histories move on when all
// heads are done.

#ifndef LINNET_CPU_MIXTURE_OF_MEMORIES_SCRATCH  // once for all targets
#define LINNET_CPU_MIXTURE_OF_MEMORIES_SCRATCH
#include <cmath>

namespace linnet::cpu {
namespace {

struct MemoryLayout {
  int64_t memories, all, tokens, kept;  // kept: tokens of a history
  MixerRecord record;
  // Where in scratch, in bytes: for each token and memory its share (negative: not routed); for each memory
  // how many tokens it has, and which; for each thread records and outputs of a block.
  size_t shares, counts, routed, threads, thread_floats, bytes;
};

MemoryLayout memory_layout(const KernelContext& c) {
  const auto& args = c.args<fb::MixtureOfMemoriesT>();
  MemoryLayout l{};
  l.memories = args.memories;
  l.all = args.memories + (args.shared ? 1 : 0);
  l.tokens = c.in[0].dims[0];
  l.kept = args.kernel > 0 ? args.kernel - 1 : 0;
  l.record = mixer_record(args.key_dim, args.value_dim, 1, true, false);
  const auto tokens = static_cast<size_t>(l.tokens), all = static_cast<size_t>(l.all);
  l.counts = align_up(tokens * static_cast<size_t>(l.memories) * sizeof(float));
  l.routed = l.counts + align_up(all * sizeof(int32_t));
  l.threads = l.routed + align_up(tokens * all * sizeof(int32_t));
  l.thread_floats = static_cast<size_t>(l.record.block * (l.record.floats + l.record.values));
  l.bytes = l.threads + l.thread_floats * sizeof(float) * static_cast<size_t>(c.threads);
  return l;
}

// softmax over all memories; the best top_k keep their share of what the chosen have together.
void route(const float* logits, int64_t memories, int64_t top_k, float* share) {
  float most = logits[0], total = 0;
  for (int64_t m = 1; m < memories; ++m) most = logits[m] > most ? logits[m] : most;
  for (int64_t m = 0; m < memories; ++m) {
    share[m] = -1;
    total += logits[m];
  }
  float sum = total != total ? total : 0;  // a NaN among the logits makes every share one
  for (int64_t i = 0; i < top_k; ++i) {
    int64_t best = -1;
    for (int64_t m = 0; m < memories; ++m)
      if (share[m] == -1 && (best < 0 || logits[m] > logits[best])) best = m;
    share[best] = std::exp(logits[best] - most);
    sum += share[best];
  }
  for (int64_t m = 0; m < memories; ++m)
    if (share[m] != -1) share[m] /= sum;
}

}  // namespace
}  // namespace linnet::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

// One of q, k and v as a memory's tokens meet it: rows of the input, before them the history.
struct MemoryInput {
  const float* x;        // of token 0 and this memory
  int64_t step;          // floats from token to token
  const float* taps;     // null: no convolution
  const float* history;  // [kept, width]
  int64_t width, kept;
  fb::Activation activation;

  // Channels [begin, end) of the memory's token `index`, convolved and activated, to y[begin ..).
  void load(const int32_t* routed, int64_t index, int64_t begin, int64_t end, float* y) const {
    const float* now = x + routed[index] * step;
    if (!taps) {
      for_lanes(end - begin,
                [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(lanes.load(now + begin + i), y + i); });
      return;
    }
    with_activation(activation, [&](auto act) HWY_ATTR {
      for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
        auto sum = hn::Zero(FloatTag());
        for (int64_t j = 0; j <= kept; ++j) {
          const int64_t from = index - kept + j;
          const float* row = from < 0 ? history + (kept + from) * width : x + routed[from] * step;
          sum = hn::MulAdd(lanes.load(taps + j * width + begin + i), lanes.load(row + begin + i), sum);
        }
        lanes.store(act(sum), y + i);
      });
    });
  }
};

struct MemoryPass {
  const fb::MixtureOfMemoriesT* args;
  const KernelContext* c;
  MemoryLayout layout;
  const float* shares;
  const int32_t *counts, *routed;

  // Input i of memory m: `own` channels for each memory, or one set for all.
  const float* rows(size_t i, int64_t m, int64_t own, int64_t* step) const {
    *step = c->in[i].channels();
    return c->in[i].as() + (*step == own ? 0 : m * own);
  }
  MemoryInput input(size_t i, int64_t m, int64_t own) const {
    MemoryInput in{};
    in.x = rows(i, m, own, &in.step);
    in.width = own;
    in.kept = layout.kept;
    in.activation = args->kernel_activation;
    if (layout.kept > 0) {
      in.taps = c->weights[2 + i].as();
      in.history = c->states[1 + i].as() + m * layout.kept * own;
    }
    return in;
  }
};

// Columns [first, last) of head h of all memories.
void run_head(const MemoryPass& p, int64_t h, int64_t first, int64_t last, float* scratch) {
  const auto& args = *p.args;
  const KernelContext& c = *p.c;
  const MemoryLayout& l = p.layout;
  const MixerRecord& at = l.record;
  const int64_t K = args.key_dim, V = args.value_dim, heads = args.heads, columns = last - first;
  float *records = scratch, *outputs = scratch + at.block * at.floats;
  float* out = c.out[0].as() + h * V + first;
  for (int64_t t = 0; t < l.tokens; ++t)
    for_lanes(columns, [&](auto lanes, int64_t i)
                           HWY_ATTR { lanes.store(hn::Zero(FloatTag()), out + t * heads * V + i); });
  const auto &query_map = host::or_default(args.query_map), &key_map = host::or_default(args.key_map);
  for (int64_t m = 0; m < l.all; ++m) {
    const int32_t* routed = p.routed + m * l.tokens;
    const MemoryInput q = p.input(0, m, heads * K), k = p.input(1, m, heads * K),
                      v = p.input(2, m, heads * V);
    int64_t beta_step;
    const float* betas = p.rows(3, m, heads, &beta_step);
    Tensor decay_rows = c.in[4];  // of this memory alone
    int64_t decay_step;
    const float* decay_of_memory = p.rows(4, m, heads, &decay_step);
    decay_rows.dims[decay_rows.rank - 1] = heads;
    DecayInput decay{&host::or_default(args.decay), decay_rows, host::operand(c.weights, 0),
                     host::operand(c.weights, 1),   heads,      K};
    DeltaPass<float> pass{at,      records,   0,         K, V, c.states[0].as() + (m * heads + h) * K * V,
                          outputs, at.values, args.scale};
    for (int64_t begin = 0; begin < p.counts[m]; begin += at.block) {
      pass.tokens = p.counts[m] - begin < at.block ? p.counts[m] - begin : at.block;
      for (int64_t i = 0; i < pass.tokens; ++i) {
        const int64_t t = routed[begin + i];
        float* record = records + i * at.floats;
        decay.x.data = reinterpret_cast<std::byte*>(const_cast<float*>(decay_of_memory + t * decay_step));
        decay.factors(0, h, record + at.factor);
        q.load(routed, begin + i, h * K, (h + 1) * K, record + at.query);
        map_head(query_map, record + at.query, K, record + at.query);
        k.load(routed, begin + i, h * K, (h + 1) * K, record + at.key);
        map_head(key_map, record + at.key, K, record + at.key);
        v.load(routed, begin + i, h * V + first, h * V + last, record + at.value + first);
        activate(args.value_activation, record + at.value + first, columns, record + at.value + first);
        const float beta = host::activate(args.beta_activation, betas[t * beta_step + h]) * args.beta_scale;
        finish_delta_record(at, K, beta, record);
      }
      delta_columns<false>(pass, first, last);
      for (int64_t i = 0; i < pass.tokens; ++i) {
        const int64_t t = routed[begin + i];
        const auto share = set(m < l.memories ? p.shares[t * l.memories + m] : 1.0f);
        float* to = out + t * heads * V;
        const float* from = outputs + i * at.values + first;
        for_lanes(columns, [&](auto lanes, int64_t j) HWY_ATTR {
          lanes.store(hn::MulAdd(share, lanes.load(from + j), lanes.load(to + j)), to + j);
        });
      }
    }
  }
}

// The histories of channels [begin, end) of one input after a memory's tokens.
void move_history(const MemoryInput& in, const int32_t* routed, int64_t count, int64_t begin, int64_t end,
                  float* history) {
  for (int64_t j = 0; j < in.kept; ++j) {  // forward: a short run shifts the history in place
    const int64_t from = count - in.kept + j;
    const float* row = from < 0 ? history + (in.kept + from) * in.width : in.x + routed[from] * in.step;
    for_lanes(end - begin, [&](auto lanes, int64_t i) HWY_ATTR {
      lanes.store(lanes.load(row + begin + i), history + j * in.width + begin + i);
    });
  }
}

void run_mixture_of_memories(const KernelContext& c) {
  const auto& args = c.args<fb::MixtureOfMemoriesT>();
  const MemoryLayout l = memory_layout(c);
  auto* shares = reinterpret_cast<float*>(c.scratch);
  auto* counts = reinterpret_cast<int32_t*>(c.scratch + l.counts);
  auto* routed = reinterpret_cast<int32_t*>(c.scratch + l.routed);
  const float* logits = c.in[5].as();
  c.pool->parallel_for(l.tokens, 8192 / l.memories + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      route(logits + t * l.memories, l.memories, args.top_k, shares + t * l.memories);
  });
  for (int64_t m = 0; m < l.all; ++m) {
    counts[m] = 0;
    for (int64_t t = 0; t < l.tokens; ++t)
      if (m == l.memories || shares[t * l.memories + m] != -1)
        routed[m * l.tokens + counts[m]++] = static_cast<int32_t>(t);
  }
  const MemoryPass pass{&args, &c, l, shares, counts, routed};
  const int64_t K = args.key_dim, V = args.value_dim, heads = args.heads;
  for_heads(
      c, heads, K, V, false, [&](int thread, int64_t h, int64_t first_column, int64_t last_column) HWY_ATTR {
        float* own =
            reinterpret_cast<float*>(c.scratch + l.threads) + static_cast<size_t>(thread) * l.thread_floats;
        run_head(pass, h, first_column, last_column, own);
      });
  if (l.kept == 0) return;
  // Runs of 64 channels of one input of one memory.
  constexpr int64_t kRun = 64;
  const int64_t widths[] = {heads * K, heads * K, heads * V};
  const int64_t runs[] = {(widths[0] + kRun - 1) / kRun, (widths[1] + kRun - 1) / kRun,
                          (widths[2] + kRun - 1) / kRun};
  const int64_t own = runs[0] + runs[1] + runs[2];
  c.pool->parallel_for(l.all * own, 16384 / (kRun * l.kept) + 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t m = n / own;
      int64_t run = n % own;
      size_t i = 0;
      while (run >= runs[i]) run -= runs[i++];
      const int64_t from = run * kRun, to = from + kRun < widths[i] ? from + kRun : widths[i];
      move_history(pass.input(i, m, widths[i]), routed + m * l.tokens, counts[m], from, to,
                   c.states[1 + i].as() + m * l.kept * widths[i]);
    }
  });
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::cpu {
static size_t scratch(const KernelContext& c) { return memory_layout(c).bytes; }
Kernel kernel_mixture_of_memories(CpuTarget target) {
  return {LINNET_CHOOSE(target, run_mixture_of_memories), scratch};
}
}  // namespace linnet::cpu
#endif
