// T5's encoder, which PixArt and LiT read prompts with. Follows transformers' modeling_t5.py.
#include "converter/image/blocks.h"
#include "converter/image/components.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

void import_t5_encoder(Importer& in) {
  GraphBuilder& g = in.graph;
  const int64_t width = in.integer("d_model"), heads = in.integer("num_heads"),
                head_dim = in.integer("d_kv", 64);
  const int64_t wide = in.integer("d_ff"), layers = in.integer("num_layers"),
                vocabulary = in.integer("vocab_size");
  const int64_t buckets = in.integer("relative_attention_num_buckets", 32);
  const int64_t distance = in.integer("relative_attention_max_distance", 128);
  const auto epsilon = static_cast<float>(in.number("layer_norm_epsilon", 1e-6));
  const std::string kind = in.text("feed_forward_proj", "relu");
  const bool gated = kind.starts_with("gated-");
  // transformers reads "gated-gelu" as gelu_new.
  const std::string absent = kind == "gated-gelu" ? "gelu_new" : gated ? kind.substr(6) : kind;
  const fb::Activation activation = in.activation("dense_act_fn", absent);
  if (!in.errors().empty()) return;

  g.begin_method(names::kEncodeText);
  const fb::Dim tokens = g.dim(names::kTextTokens);
  const Value ids = g.input(names::kInputIds, DType::kI32, {tokens});
  const Value mask = g.input(names::kAttentionMask, DType::kF32, {tokens});
  const std::string table = in.has("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
  in.ignore("encoder.embed_tokens.weight");
  Value x = g.embedding("embedding", ids, in.matrix(table, vocabulary, width, WeightRole::kEmbedding));
  const std::string bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
  const Weight positions = g.tensor(bias, {buckets, heads}, in.rows(bias, {buckets, heads}));
  const int64_t inner = heads * head_dim;
  for (int64_t i = 0; i < layers; ++i) {
    const std::string block = strf("encoder.block.{}.layer.", i), attn = block + "0.SelfAttention",
                      ff = block + "1.DenseReluDense";
    const Value h =
        g.rms_norm(block + "0.layer_norm", x, in.vector(block + "0.layer_norm.weight", width), epsilon);
    const auto qkv =
        g.linear(attn + ".qkv", h,
                 {in.projection(attn + ".q", inner, width), in.projection(attn + ".k", inner, width),
                  in.projection(attn + ".v", inner, width)});
    fb::SoftmaxAttentionT a = attention_of(heads, head_dim);
    a.scale = 1;  // T5 has no scale: it is in the weights
    a.relative_buckets = static_cast<int>(buckets);
    a.relative_max_distance = static_cast<int>(distance);
    const Value o = attend(in, attn, std::move(a), qkv[0], qkv[1], qkv[2], mask, positions);
    x = g.linear(attn + ".o", o, in.projection(attn + ".o", width, inner), fb::Activation::None, x);
    const Value h2 =
        g.rms_norm(block + "1.layer_norm", x, in.vector(block + "1.layer_norm.weight", width), epsilon);
    const Value m = gated ? g.gated_linear(ff + ".wi", h2, in.projection(ff + ".wi_0", wide, width),
                                           in.projection(ff + ".wi_1", wide, width), activation)
                          : g.linear(ff + ".wi", h2, in.projection(ff + ".wi", wide, width), activation);
    x = g.linear(ff + ".wo", m, in.projection(ff + ".wo", width, wide), fb::Activation::None, x);
  }
  const std::string last = "encoder.final_layer_norm";
  const Value out = g.rms_norm("hidden_states", x, in.vector(last + ".weight", width), epsilon);
  g.output(out);
}

}  // namespace linnet::convert
