#include "backends/host/embeddings.h"
#include "backends/vulkan/lowering.h"
#include "runtime/core/strings.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64, kManyThreads = 256;

// A long cache's keys are split over groups where a single query's heads would leave most of a GPU idle.
struct Split {
  static constexpr int64_t kKeys = 1024, kGroups = 256;  // of a part, at least; of all heads, at most
  int64_t parts, span;
  size_t bytes;  // what the parts leave in memory

  explicit Split(const NodeShapes& shapes) {
    const auto& args = shapes.args<fb::SoftmaxAttentionT>();
    const int64_t keys = args.mask == fb::AttentionMask::Causal ? shapes.ring.capacity : 0;
    parts = std::max<int64_t>(1, std::min(keys / kKeys, kGroups / args.heads));
    span = (keys + parts - 1) / parts;
    bytes = parts > 1
                ? static_cast<size_t>(args.heads * (1 + parts * (args.value_dim + 2))) * sizeof(uint32_t)
                : 0;
  }
};

size_t scratch(const NodeShapes& shapes) { return Split(shapes).bytes; }

// Every token of a chunk goes into the ring before the first of them attends (plan.cc: attention_ring).
void store(Lowering& l, const Split* split) {
  const Shape &k = l.shapes.in[1], &v = l.shapes.in[2];
  const DType dtype = l.shapes.states[0].dtype;
  const int64_t step = is_quantized(dtype) ? kGroupSize : 1;
  Dispatch d;
  d.shader = "softmax_attention_store";
  d.constants = {kThreads, code(dtype)};
  d.bindings = {l.params(), l.in(1),    l.in(2),
                l.state(0), l.state(1), split ? l.scratch(0, split->bytes, true) : l.params()};
  const int64_t heads = split ? l.args<fb::SoftmaxAttentionT>().heads : 0;
  d.push = {u32(k.rows()),
            u32(k.channels()),
            u32(v.channels()),
            u32(l.shapes.ring.sinks),
            u32(l.shapes.ring.capacity),
            u32(heads)};
  d.groups = ceil_div(std::max(heads, k.rows() * ((k.channels() + v.channels()) / step)), kThreads);
  l.add(std::move(d));
}

// The buckets of every distance between a query and a key, from the least.
Binding buckets(Lowering& l, int64_t queries, int64_t keys) {
  const auto& args = l.args<fb::SoftmaxAttentionT>();
  const auto count = static_cast<size_t>(queries + keys);
  return l.table(
      strf("buckets {} {} {}", args.relative_buckets, args.relative_max_distance, l.shapes.node->name), count,
      [&args, queries, count](int64_t, float* out) {
        for (size_t i = 0; i < count; ++i)
          out[i] = static_cast<float>(host::relative_bucket(args, static_cast<int64_t>(i) - queries + 1));
      });
}

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::SoftmaxAttentionT>();
  const bool causal = args.mask == fb::AttentionMask::Causal;
  const plan::Ring& ring = l.shapes.ring;
  const int64_t queries = l.shapes.in[0].rows();
  const bool turn = causal && args.rope && ring.sinks > 0;
  const bool bias = l.shapes.has_weight(0);
  const Split all(l.shapes);
  const bool splits = queries == 1 && all.parts > 1 && l.device().abilities().split_keys;
  const Split* const split = splits ? &all : nullptr;
  if (causal) store(l, split);
  const uint32_t slice =
      std::min(std::max(kThreads, threads_for(args.value_dim, 128)), l.device().most_threads());
  // A single query leaves most of a GPU idle: its keys are shared among more threads.
  const int64_t keys = causal ? ring.capacity : l.shapes.in[1].rows();
  const uint32_t threads = queries == 1 && keys >= kManyThreads && l.device().most_threads() >= kManyThreads
                               ? kManyThreads
                               : slice;
  const size_t shared = (2 * static_cast<size_t>(args.head_dim) + 3 * threads) * sizeof(float);
  if (shared > l.device().shared_bytes())
    return fail(ErrorCode::kUnsupported,
                "heads this wide do not fit the device's shared memory: use --backend cpu");
  Dispatch d;
  d.shader = "softmax_attention";
  const uint32_t flags = (causal ? 1u : 0u) | (l.shapes.has_in(3) ? 2u : 0u) | (turn ? 4u : 0u) |
                         (turn && args.rope->interleaved ? 8u : 0u) | (bias ? 16u : 0u) |
                         (l.shapes.has_in(4) ? 32u : 0u);
  d.constants = {threads,
                 code(causal ? l.shapes.states[0].dtype : DType::kF32),
                 flags,
                 code(args.gate_activation),
                 u32(args.head_dim),
                 static_cast<uint32_t>(ceil_div(args.value_dim, slice)),
                 slice,
                 split ? u32(split->parts) : 1u};
  d.bindings = {
      l.params(),
      l.in(0),
      causal ? l.state(0, false) : l.in(1),
      causal ? l.state(1, false) : l.in(2),
      l.in(3),
      turn ? l.rope(*args.rope, queries, {RopeAngle::Kind::kSinks, ring.sinks, ring.window}) : l.params(),
      l.vector(0),
      bias ? buckets(l, queries, l.shapes.in[1].rows()) : l.params(),
      l.out(0),
      l.in(4),
      split ? l.scratch(0, split->bytes, true) : l.params()};
  d.push = {u32(args.heads),     u32(args.kv_heads),
            u32(args.value_dim), u32(causal ? 0 : l.shapes.in[1].rows()),
            u32(ring.sinks),     u32(ring.window),
            u32(ring.capacity),  u32(turn ? static_cast<int64_t>(args.rope->inverse_frequencies.size()) : 0),
            bits(args.scale),    bits(args.softcap),
            u32(queries),        u32(split ? split->span : 0)};
  d.groups = static_cast<uint64_t>(queries * args.heads * (split ? split->parts : 1));
  l.add(std::move(d));
  return {};
}

}  // namespace

Lower lower_softmax_attention() { return {run, scratch}; }

}  // namespace linnet::vulkan
