#include "backends/vulkan/lowering.h"

namespace linnet::vulkan {
namespace {

constexpr uint32_t kThreads = 64;

Result<void> run(Lowering& l) {
  const auto& args = l.args<fb::ConcatHeadsT>();
  const int64_t out_size = l.shapes.out[0].channels() / args.heads, tokens = l.shapes.in[0].dims[0];
  int64_t first = 0;
  for (size_t i = 0; i < l.shapes.in.size(); ++i) {
    const int64_t size = args.sizes[i], count = tokens * args.heads * size;
    Dispatch d;
    d.shader = "concat_heads";
    d.constants = {kThreads};
    d.bindings = {l.in(i), l.out(0)};
    d.push = {u32(count),    u32(args.heads), u32(size), u32(l.shapes.in[i].channels()),
              u32(out_size), u32(first)};
    d.groups = ceil_div(count, kThreads);
    l.add(std::move(d));
    first += size;
  }
  return {};
}

}  // namespace

Lower lower_concat_heads() { return {run, nullptr}; }

}  // namespace linnet::vulkan
