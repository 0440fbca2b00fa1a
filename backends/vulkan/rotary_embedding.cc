#include "backends/vulkan/rotary.h"

namespace linnet::vulkan {
namespace {

Result<void> run(Lowering& l) {
  for (size_t i = 0; i < l.shapes.in.size(); ++i) {
    const Shape& x = l.shapes.in[i];
    add_rotation(l, l.args<fb::RotaryEmbeddingT>(), x.rows(), x.channels(), {}, l.in(i), l.out(i));
  }
  return {};
}

}  // namespace

Lower lower_rotary_embedding() { return {run, nullptr}; }

}  // namespace linnet::vulkan
