// PixArt-Sigma, the frame of LiT's text-to-image model: softmax attention (linear where the configuration has
// linear_attention_heads), cross attention, one adaptive norm for all blocks. Follows diffusers'
// pixart_transformer_2d.py.
#include <algorithm>

#include "converter/image/attention.h"
#include "converter/image/blocks.h"
#include "converter/image/components.h"

namespace linnet::convert {

void import_pixart(Importer& in, ImageFacts& facts) {
  GraphBuilder& g = in.graph;
  const int64_t heads = in.integer("num_attention_heads", 16),
                head_dim = in.integer("attention_head_dim", 72);
  const int64_t width = heads * head_dim, channels = in.integer("in_channels", 4);
  const int64_t outputs = in.integer("out_channels", channels), patch = in.integer("patch_size", 2);
  const int64_t layers = in.integer("num_layers", 28), size = in.integer("sample_size", 128);
  const int64_t captions = in.integer("caption_channels");
  const auto epsilon = static_cast<float>(in.number("norm_eps", 1e-6));
  const bool bias = in.flag("attention_bias", true);
  in.expect("norm_type", "ada_norm_single");
  in.expect("norm_elementwise_affine", false);
  in.expect("activation_fn", "gelu-approximate");
  in.expect("attention_type", "default");
  in.expect("use_additional_conditions", false);
  if (!in.has_key("use_additional_conditions") && size == 128)
    in.fail(
        "config.json: 'use_additional_conditions' is absent and thus true at sample_size 128 (PixArt-Alpha "
        "at 1024 px); Linnet supports false (PixArt-Sigma) here");
  if (in.has_key("cross_attention_dim")) in.expect("cross_attention_dim", width);
  if (!in.errors().empty() || patch < 1 || width < 1) return;
  facts.latent_channels = channels;
  facts.latent_size = size;
  facts.patch = patch;

  const auto [latents, captioned, mask, timestep] = begin_text_denoiser(g, channels, patch, captions);
  const std::string emb = "adaln_single.emb.timestep_embedder";
  const Value e = time_embedding(in, emb + ".linear_1", emb + ".linear_2", "time", timestep, width, 0);
  const Value modulation =
      g.linear("modulation", activate(in, "time.silu", e, fb::Activation::Silu),
               in.projection("adaln_single.linear", 6 * width, width, true, WeightRole::kCondition));
  const Value hidden =
      g.linear("caption.hidden", captioned,
               in.projection("caption_projection.linear_1", width, captions, true, WeightRole::kCondition),
               fb::Activation::GeluTanh);
  const Value text =
      g.linear("caption", hidden,
               in.projection("caption_projection.linear_2", width, width, true, WeightRole::kCondition));
  Value x = patch_embedding(in, "pos_embed.proj", latents, patch, width);
  in.ignore("pos_embed.pos_embed");
  fb::PositionEmbedding2dT positions;
  positions.base_size = static_cast<int>(std::max<int64_t>(size / patch, 1));
  positions.interpolation_scale = static_cast<float>(
      in.number("interpolation_scale", static_cast<double>(std::max<int64_t>(size / 64, 1))));
  x = g.node("positions", GraphBuilder::args(std::move(positions)), {x}, {}, {}, {g.shape(x)})[0];
  const SelfAttention self = SelfAttention::read(in, width, heads, head_dim, bias);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = "transformer_blocks." + std::to_string(i), a2 = b + ".attn2";
    const Value parts = add_table(in, b + ".scale_shift_table", modulation, 6, width);
    const Value h = modulated_norm(in, b + ".norm1", x, epsilon, parts, 0, 1);
    x = self.apply(in, b + ".attn1", h, x, parts, 2);
    const Value q = g.linear(a2 + ".to_q", x, in.projection(a2 + ".to_q", width, width, bias));
    const auto kv = g.linear(
        a2 + ".kv", text,
        {in.projection(a2 + ".to_k", width, width, bias), in.projection(a2 + ".to_v", width, width, bias)});
    const Value seen = attend(in, a2, attention_of(heads, head_dim), q, kv[0], kv[1], mask);
    x = g.linear(a2 + ".to_out", seen, in.projection(a2 + ".to_out.0", width, width, true),
                 fb::Activation::None, x);
    const Value h2 = modulated_norm(in, b + ".norm2", x, epsilon, parts, 3, 4);
    const Value wide =
        g.linear(b + ".ff.hidden", h2, in.projection(b + ".ff.net.0.proj", 4 * width, width, true),
                 fb::Activation::GeluTanh);
    x = gated_linear(in, b + ".ff", wide, in.projection(b + ".ff.net.2", width, 4 * width, true), x, parts,
                     5);
  }
  const Value last = add_table(in, "scale_shift_table", e, 2, width);
  x = modulated_norm(in, "norm_out", x, 1e-6f, last, 0, 1);
  x = g.linear("proj_out", x,
               in.projection("proj_out", patch * patch * outputs, width, true, WeightRole::kCondition));
  g.output(unpatch(in, x, patch, "output"));
}

}  // namespace linnet::convert
