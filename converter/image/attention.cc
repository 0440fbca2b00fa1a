#include "converter/image/attention.h"

#include "converter/image/blocks.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

SelfAttention SelfAttention::read(Importer& in, int64_t width, int64_t heads, int64_t head_dim, bool bias) {
  SelfAttention self{width,
                     heads,
                     head_dim,
                     in.integer("linear_attention_heads", 0),
                     static_cast<float>(in.number("linear_attention_epsilon", 1e-6)),
                     bias};
  if (self.linear_heads < 0 || (self.linear_heads > 0 && width % self.linear_heads != 0)) {
    in.fail(strf("config.json: 'linear_attention_heads' {} does not divide the width {}", self.linear_heads,
                 width));
    self.linear_heads = 0;
  }
  return self;
}

Value SelfAttention::apply(Importer& in, const std::string& p, Value h, Value residual, Value modulation,
                           int gate) const {
  GraphBuilder& g = in.graph;
  const int64_t inner = heads * head_dim;
  const bool joined = in.has(p + ".qkv.weight");
  std::vector<Projection> projections;
  if (joined) {
    const Rows all = in.rows(p + ".qkv.weight", {3 * inner, width});
    const Rows biases = bias ? in.rows(p + ".qkv.bias", {3 * inner, 1}) : nullptr;
    for (int64_t i = 0; i < 3; ++i) {
      const std::string name = p + ".qkv." + "qkv"[i];
      const Weight w = g.matrix(name + ".weight", WeightRole::kMatrix, slice_rows(all, i * inner, inner));
      projections.push_back(
          {w, bias ? g.vector(name + ".bias", slice_rows(biases, i * inner, inner)) : kAbsent});
    }
  } else {
    for (const char* part : {".to_q", ".to_k", ".to_v"})
      projections.push_back(in.projection(p + part, inner, width, bias));
  }
  const auto qkv = g.linear(p + ".qkv", h, projections);
  Value o;
  if (linear_heads > 0) {
    const int64_t kernel = in.has(p + ".dwc.weight") ? in.shape(p + ".dwc.weight").back() : 5;
    o = linear_attend(in, p + ".linear_attention", linear_heads, inner / linear_heads, linear_epsilon, qkv[0],
                      qkv[1], qkv[2]);
    o = convolution(in, p + ".dwc", qkv[2],
                    {.outputs = inner,
                     .kernel = kernel,
                     .groups = inner,
                     .bias = in.has(p + ".dwc.bias"),
                     .residual = o});
  } else {
    o = attend(in, p + ".attention", attention_of(heads, head_dim), qkv[0], qkv[1], qkv[2]);
  }
  const Projection out = in.projection(joined ? p + ".proj" : p + ".to_out.0", width, inner, true);
  return gated_linear(in, p + ".output", o, out, residual, modulation, gate);
}

}  // namespace linnet::convert
