// Self attention of DiT and PixArt blocks: softmax, or LiT's linear form of it.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

// LiT (arXiv 2501.12976): ReLU features, few heads, and a depthwise convolution of v as an image, added
// before the output projection. Taken where the configuration has `linear_attention_heads`; the trained
// tensors then stand in the places of the softmax model's, with prefix.dwc.{weight,bias} besides.
struct SelfAttention {
  int64_t width = 0, heads = 0, head_dim = 0, linear_heads = 0;
  float linear_epsilon = 1e-6f;
  bool bias = true;

  static SelfAttention read(Importer& in, int64_t width, int64_t heads, int64_t head_dim, bool bias);
  // residual + modulation's part `gate` * attention(h). Tensors prefix.to_q, to_k, to_v, to_out.0; or
  // prefix.qkv and prefix.proj, as the original code has them.
  Value apply(Importer& in, const std::string& prefix, Value h, Value residual, Value modulation,
              int gate) const;
};

}  // namespace linnet::convert
