#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

int64_t state_floats(const NodeShapes& shapes) {
  const auto& args = shapes.args<fb::LinearAttentionT>();
  return int64_t{args.heads} * args.head_dim * (args.value_dim + 1);
}
size_t scratch(const NodeShapes& shapes) { return static_cast<size_t>(state_floats(shapes)) * sizeof(float); }

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::LinearAttentionT>();
  const int64_t K = args.head_dim, V = args.value_dim, rows = l.shapes.in[0].rows();
  const size_t bytes = scratch(l.shapes);
  // Heads side by side in one input, counted through all inputs, or q, k and v apart.
  struct Part {
    Binding q, k, v;
    int64_t heads, q_row, k_row, v_row, key_head, value_head, k_at, v_at, keys;
  };
  std::vector<Part> parts;
  if (args.interleaved) {
    for (size_t i = 0; i < l.shapes.in.size(); ++i) {
      const int64_t size = 2 * K + V, row = l.shapes.in[i].channels();
      parts.push_back({l.in(i), l.in(i), l.in(i), row / size, row, row, row, size, size, K, 2 * K, rows});
    }
  } else {
    parts.push_back({l.in(0), l.in(1), l.in(2), args.heads, args.heads * K, args.heads * K, args.heads * V, K,
                     V, 0, 0, l.shapes.in[1].rows()});
  }
  int64_t first = 0;
  for (const Part& part : parts) {
    Dispatch d;
    d.shader = "linear_attention_sum";
    d.constants = {kThreads, code(args.activation)};
    d.bindings = {part.k, part.v, l.scratch(0, bytes, true)};
    const int64_t count = part.heads * K * (V + 1);
    d.push = {u32(count),      u32(part.keys),     u32(K),         u32(V),          u32(first),
              u32(part.k_row), u32(part.key_head), u32(part.k_at), u32(part.v_row), u32(part.value_head),
              u32(part.v_at)};
    d.groups = ceil_div(count, kThreads);
    l.add(std::move(d));
    first += part.heads;
  }
  first = 0;
  for (const Part& part : parts) {
    Dispatch d;
    d.shader = "linear_attention";
    d.constants = {kThreads, code(args.activation)};
    d.bindings = {part.q, l.scratch(0, bytes, false), l.out(0)};
    const int64_t count = rows * part.heads * V;
    d.push = {u32(count),      u32(part.heads),    u32(args.heads),   u32(K), u32(V), u32(first),
              u32(part.q_row), u32(part.key_head), bits(args.epsilon)};
    d.groups = ceil_div(count, kThreads);
    l.add(std::move(d));
    first += part.heads;
  }
  return {};
}

}  // namespace

Lower lower_linear_attention() { return {run, scratch}; }

}  // namespace linnet::vulkan
