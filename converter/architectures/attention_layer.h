// Softmax attention as a layer of hybrid models: projections, optional norms of q and k, rotation, optional
// output gate, output projection.
#pragma once

#include <optional>

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct AttentionLayer {
  int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  double scale = 0;  // 0: head_dim^-1/2
  int64_t window = 0;
  bool qkv_bias = false, output_bias = false;
  std::optional<fb::RotaryEmbeddingT> rope;  // none: no positions
  bool qk_norm = false;                      // RMS norms of each head, q_norm and k_norm
  float epsilon = 1e-6f, norm_offset = 0;
  bool gated =
      false;  // q_proj holds, for each head, its queries and then a gate whose sigmoid multiplies the output
};

// Tensors prefix.{q,k,v,o}_proj. The residual is added by the output projection unless it is -1.
Value attention_layer(Importer& in, const std::string& prefix, Value h, const AttentionLayer& layer,
                      Value residual);

}  // namespace linnet::convert
