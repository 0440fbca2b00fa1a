// SANA and SANA-Sprint: linear attention, cross attention to the text, a gated convolution for the MLP; one
// adaptive norm for all blocks. Follows diffusers' sana_transformer.py.
#include <algorithm>

#include "converter/image/blocks.h"
#include "converter/image/components.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

struct Sana {
  int64_t width, heads, head_dim, cross_heads, cross_dim, hidden;
  float epsilon;
  bool bias, qk_norm;
};

Value normed(Importer& in, const Sana& m, const std::string& name, Value x, int64_t channels) {
  constexpr float kEpsilon = 1e-5f;
  return m.qk_norm ? in.graph.rms_norm(name, x, in.vector(name + ".weight", channels), kEpsilon) : x;
}

Value block(Importer& in, const Sana& m, const std::string& p, Value x, Value text, Value mask, Value time) {
  GraphBuilder& g = in.graph;
  const int64_t inner = m.heads * m.head_dim, cross = m.cross_heads * m.cross_dim;
  const Value modulation = add_table(in, p + ".scale_shift_table", time, 6, m.width);
  const Value h = modulated_norm(in, p + ".norm1", x, m.epsilon, modulation, 0, 1);
  const std::string a1 = p + ".attn1", a2 = p + ".attn2", ff = p + ".ff";
  const auto qkv = g.linear(a1 + ".qkv", h,
                            {in.projection(a1 + ".to_q", inner, m.width, m.bias),
                             in.projection(a1 + ".to_k", inner, m.width, m.bias),
                             in.projection(a1 + ".to_v", inner, m.width, m.bias)});
  const Value o =
      linear_attend(in, a1, m.heads, m.head_dim, 1e-15f, normed(in, m, a1 + ".norm_q", qkv[0], inner),
                    normed(in, m, a1 + ".norm_k", qkv[1], inner), qkv[2]);
  x = gated_linear(in, a1 + ".to_out", o, in.projection(a1 + ".to_out.0", m.width, inner, true), x,
                   modulation, 2);
  const Value q = g.linear(a2 + ".to_q", x, in.projection(a2 + ".to_q", cross, m.width, true));
  const auto kv = g.linear(
      a2 + ".kv", text,
      {in.projection(a2 + ".to_k", cross, m.width, true), in.projection(a2 + ".to_v", cross, m.width, true)});
  const Value seen =
      attend(in, a2, attention_of(m.cross_heads, m.cross_dim), normed(in, m, a2 + ".norm_q", q, cross),
             normed(in, m, a2 + ".norm_k", kv[0], cross), kv[1], mask);
  x = g.linear(a2 + ".to_out", seen, in.projection(a2 + ".to_out.0", m.width, cross, true),
               fb::Activation::None, x);
  const Value h2 = modulated_norm(in, p + ".norm2", x, m.epsilon, modulation, 3, 4);
  // Its kernels of one pixel are matrices.
  const Value wide =
      g.linear(ff + ".conv_inverted", h2, in.projection(ff + ".conv_inverted", 2 * m.hidden, m.width, true),
               fb::Activation::Silu);
  const Value mixed = convolution(
      in, ff + ".conv_depth", wide,
      {.outputs = 2 * m.hidden, .groups = 2 * m.hidden, .activation = fb::Activation::Silu, .gated = true});
  const Weight point = in.matrix(ff + ".conv_point.weight", m.width, m.hidden);
  return gated_linear(in, ff + ".conv_point", mixed, {point, kAbsent}, x, modulation, 5);
}

}  // namespace

void import_sana(Importer& in, ImageFacts& facts) {
  if (in.has("x_embedder.proj.weight"))
    return in.fail(
        "the tensors have the names of the original SANA code ('x_embedder.proj.weight'); Linnet reads "
        "diffusers' names: its scripts/convert_sana_to_diffusers.py makes such a folder");
  GraphBuilder& g = in.graph;
  Sana m;
  m.heads = in.integer("num_attention_heads", 70);
  m.head_dim = in.integer("attention_head_dim", 32);
  m.width = m.heads * m.head_dim;
  m.cross_heads = in.integer("num_cross_attention_heads", 20);
  m.cross_dim = in.integer("cross_attention_head_dim", 112);
  m.hidden = static_cast<int64_t>(in.number("mlp_ratio", 2.5) * static_cast<double>(m.width));
  m.epsilon = static_cast<float>(in.number("norm_eps", 1e-6));
  m.bias = in.flag("attention_bias", false);
  m.qk_norm = in.has_key("qk_norm");
  if (m.qk_norm) in.expect("qk_norm", "rms_norm_across_heads");
  in.expect("norm_elementwise_affine", false);
  const int64_t channels = in.integer("in_channels", 32), patch = in.integer("patch_size", 1);
  const int64_t outputs = in.integer("out_channels", channels),
                captions = in.integer("caption_channels", 2304);
  const int64_t layers = in.integer("num_layers", 20), size = in.integer("sample_size", 32);
  if (in.has_key("cross_attention_dim") && in.integer("cross_attention_dim") != m.width)
    in.fail(strf("config.json: 'cross_attention_dim' must be the width {}", m.width));
  const bool guided = in.flag("guidance_embeds", false);
  const double scale = in.number("interpolation_scale", 0);
  if (!in.errors().empty() || m.width <= 0 || m.width > 65536 || patch < 1) {
    in.fail("config.json: sizes of the transformer make no sense");
    return;
  }
  facts.latent_channels = channels;
  facts.latent_size = size;
  facts.patch = patch;
  facts.timestep_scale = in.number("timestep_scale", 1);
  facts.guidance_input = guided ? in.number("guidance_embeds_scale", 0.1) : 0;

  const auto [latents, captioned, mask, timestep] = begin_text_denoiser(g, channels, patch, captions);
  const std::string time = "time_embed", emb = guided ? time : time + ".emb";
  Value e = time_embedding(in, emb + ".timestep_embedder.linear_1", emb + ".timestep_embedder.linear_2",
                           "time", timestep, m.width, 0);
  if (guided) {
    const Value guidance = g.input(names::kGuidance, DType::kF32, {GraphBuilder::fixed(1)});
    e = g.add("conditioning", e,
              time_embedding(in, emb + ".guidance_embedder.linear_1", emb + ".guidance_embedder.linear_2",
                             "guidance_embedding", guidance, m.width, 0));
  }
  const Value modulation =
      g.linear("modulation", activate(in, "conditioning.silu", e, fb::Activation::Silu),
               in.projection(time + ".linear", 6 * m.width, m.width, true, WeightRole::kCondition));
  const Value hidden =
      g.linear("caption.hidden", captioned,
               in.projection("caption_projection.linear_1", m.width, captions, true, WeightRole::kCondition),
               fb::Activation::GeluTanh);
  const Value text = g.rms_norm(
      "caption_norm",
      g.linear("caption", hidden,
               in.projection("caption_projection.linear_2", m.width, m.width, true, WeightRole::kCondition)),
      in.vector("caption_norm.weight", m.width), 1e-5f);
  Value x = patch_embedding(in, "patch_embed.proj", latents, patch, m.width);
  if (scale > 0) {
    fb::PositionEmbedding2dT a;
    a.base_size = static_cast<int>(std::max<int64_t>(size / patch, 1));
    a.interpolation_scale = static_cast<float>(scale);
    x = g.node("positions", GraphBuilder::args(std::move(a)), {x}, {}, {}, {g.shape(x)})[0];
  }
  for (int64_t i = 0; i < layers; ++i)
    x = block(in, m, "transformer_blocks." + std::to_string(i), x, text, mask, modulation);
  // The last norm is moved by the embedding itself, not by the projection that moves the blocks.
  const Value last = add_table(in, "scale_shift_table", e, 2, m.width);
  x = modulated_norm(in, "norm_out", x, 1e-6f, last, 0, 1);
  x = g.linear("proj_out", x,
               in.projection("proj_out", patch * patch * outputs, m.width, true, WeightRole::kCondition));
  const Value out = unpatch(in, x, patch, "output");
  g.output(out);
}

}  // namespace linnet::convert
