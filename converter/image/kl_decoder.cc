// The decoder of AutoencoderKL (Stable Diffusion's and SDXL's): residual blocks with group norm, one
// attention over the whole latent picture. Follows diffusers' autoencoder_kl.py and vae.py.
#include "converter/image/blocks.h"
#include "converter/image/components.h"
#include "converter/readers/json.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr float kGroupEpsilon = 1e-6f;

struct Kl {
  int64_t groups;
};

Value group_norm(Importer& in, const Kl& m, const std::string& name, Value x, fb::Activation activation) {
  const int64_t channels = in.graph.channels(x);
  fb::NormT a;
  a.kind = fb::NormKind::Group;
  a.epsilon = kGroupEpsilon;
  a.group = static_cast<int>(channels / m.groups);
  a.activation = activation;
  return in.graph.node(name, GraphBuilder::args(std::move(a)), {x},
                       {in.vector(name + ".weight", channels), in.vector(name + ".bias", channels)}, {},
                       {in.graph.shape(x)})[0];
}

Value resnet(Importer& in, const Kl& m, const std::string& p, Value x, int64_t outputs) {
  const int64_t inputs = in.graph.channels(x);
  Value h = group_norm(in, m, p + ".norm1", x, fb::Activation::Silu);
  h = convolution(in, p + ".conv1", h, {.outputs = outputs});
  h = group_norm(in, m, p + ".norm2", h, fb::Activation::Silu);
  const Value same =
      inputs == outputs ? x : convolution(in, p + ".conv_shortcut", x, {.outputs = outputs, .kernel = 1});
  return convolution(in, p + ".conv2", h, {.outputs = outputs, .residual = same});
}

Value attention(Importer& in, const Kl& m, const std::string& p, Value x) {
  GraphBuilder& g = in.graph;
  const int64_t channels = g.channels(x);
  // Names before diffusers 0.18.
  const bool old = in.has(p + ".query.weight");
  const auto projection = [&](const char* name, const char* before) {
    return in.projection(p + (old ? before : name), channels, channels, true, WeightRole::kSmall);
  };
  const Value h = group_norm(in, m, p + ".group_norm", x, fb::Activation::None);
  const auto qkv =
      g.linear(p + ".qkv", h,
               {projection(".to_q", ".query"), projection(".to_k", ".key"), projection(".to_v", ".value")});
  const Value o = attend(in, p, attention_of(1, channels), qkv[0], qkv[1], qkv[2]);
  return g.linear(p + ".to_out", o, projection(".to_out.0", ".proj_attn"), fb::Activation::None, x);
}

}  // namespace

void import_kl_decoder(Importer& in, ImageFacts& facts) {
  GraphBuilder& g = in.graph;
  const int64_t latent = in.integer("latent_channels", 4), layers = in.integer("layers_per_block", 1);
  const Kl m{in.integer("norm_num_groups", 32)};
  in.expect("act_fn", "silu");
  in.expect("out_channels", 3);
  for (const char* key : {"latents_mean", "latents_std"})
    if (in.has_key(key)) in.fail(strf("config.json: '{}' is set, which Linnet does not have", key));
  std::vector<int64_t> channels;
  if (in.has_key("block_out_channels") && in.config()["block_out_channels"].is_array())
    for (const Json& c : in.config()["block_out_channels"])
      channels.push_back(integer_of(c, 0, 4096).value_or(0));
  if (channels.empty()) channels = {64};
  for (const int64_t c : channels)
    if (c < 1 || c > 4096 || m.groups < 1 || c % m.groups != 0)
      in.fail(strf(
          "config.json: 'block_out_channels' has {}, expected multiples of norm_num_groups {} up to 4096", c,
          m.groups));
  if (in.has_key("up_block_types"))
    for (const Json& kind : in.config()["up_block_types"])
      if (kind != "UpDecoderBlock2D")
        in.fail(
            strf("config.json: 'up_block_types' has {}, Linnet supports UpDecoderBlock2D", json_text(kind)));
  if (!in.errors().empty()) return;
  facts.decodes = true;
  facts.pixels_per_latent = int64_t{1} << (channels.size() - 1);
  facts.latent_scale = in.number("scaling_factor", 0.18215);
  facts.latent_shift = in.number("shift_factor", 0);

  g.begin_method(names::kDecodeImage, fb::Products::Single);
  const int p = static_cast<int>(facts.patch);
  const Value latents =
      g.input(names::kLatents, DType::kF32,
              {GraphBuilder::fixed(latent), g.dim(names::kHeight, p), g.dim(names::kWidth, p)});
  fb::ResampleT turn;
  turn.kind = fb::ResampleKind::Unshuffle;
  turn.planar_input = true;
  Value x = resample(in, "decoder.latents", latents, turn);
  if (in.flag("use_post_quant_conv", true))
    x = convolution(in, "post_quant_conv", x, {.outputs = latent, .kernel = 1});
  x = convolution(in, "decoder.conv_in", x, {.outputs = channels.back()});
  x = resnet(in, m, "decoder.mid_block.resnets.0", x, channels.back());
  if (in.flag("mid_block_add_attention", true)) x = attention(in, m, "decoder.mid_block.attentions.0", x);
  x = resnet(in, m, "decoder.mid_block.resnets.1", x, channels.back());
  for (size_t i = 0; i < channels.size(); ++i) {
    const std::string block = strf("decoder.up_blocks.{}", i);
    const int64_t outputs = channels[channels.size() - 1 - i];
    for (int64_t r = 0; r <= layers; ++r) x = resnet(in, m, strf("{}.resnets.{}", block, r), x, outputs);
    if (i + 1 < channels.size())
      x = convolution(in, block + ".upsamplers.0.conv", x, {.outputs = outputs, .upsample = 2});
  }
  x = group_norm(in, m, "decoder.conv_norm_out", x, fb::Activation::Silu);
  x = convolution(in, "decoder.conv_out", x, {.outputs = 3});
  fb::ResampleT out;
  out.kind = fb::ResampleKind::Unshuffle;
  out.planar_output = true;
  g.output(resample(in, "image", x, out));
}

}  // namespace linnet::convert
