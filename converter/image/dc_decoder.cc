// The decoder of DC-AE, SANA's autoencoder of 32 pixels a latent. Follows diffusers' autoencoder_dc.py.
#include "converter/image/blocks.h"
#include "converter/image/components.h"
#include "converter/readers/json.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr float kEpsilon = 1e-5f;

// One entry a stage; a single text stands for all.
std::vector<std::string> texts(Importer& in, const char* key, const char* absent, size_t stages) {
  std::vector<std::string> result(stages, absent);
  if (!in.has_key(key)) return result;
  const Json& value = in.config()[key];
  for (size_t i = 0; i < stages; ++i) {
    const Json& one = value.is_array() && i < value.size() ? value[i] : value;
    if (one.is_string())
      result[i] = one.get<std::string>();
    else
      in.fail(strf("config.json: '{}' is {}, expected a text or one for each of {} stages", key,
                   json_text(value), stages));
  }
  return result;
}
std::vector<int64_t> integers(Importer& in, const char* key, std::vector<int64_t> absent) {
  if (!in.has_key(key)) return absent;
  std::vector<int64_t> result;
  const Json& value = in.config()[key];
  if (!value.is_array()) return result;
  for (const Json& one : value) {
    const auto n = integer_of(one, 0, 65536);
    if (!n) return in.fail(strf("config.json: '{}' is {}", key, json_text(value))), absent;
    result.push_back(*n);
  }
  return result;
}

Value rms(Importer& in, const std::string& name, Value x, int64_t channels, Value residual,
          fb::Activation activation = fb::Activation::None) {
  fb::NormT a;
  a.kind = fb::NormKind::Rms;
  a.epsilon = kEpsilon;
  a.activation = activation;
  std::vector<Value> operands = {x};
  if (residual) operands = {x, kAbsent, kAbsent, residual};
  return in.graph.node(name, GraphBuilder::args(std::move(a)), std::move(operands),
                       {in.vector(name + ".weight", channels), in.vector(name + ".bias", channels)}, {},
                       {in.graph.shape(x)})[0];
}

Value residual_block(Importer& in, const std::string& p, Value x, int64_t channels,
                     fb::Activation activation) {
  const Value h = convolution(in, p + ".conv1", x, {.outputs = channels, .activation = activation});
  return rms(in, p + ".norm", convolution(in, p + ".conv2", h, {.outputs = channels, .bias = false}),
             channels, x);
}

// Attention over the whole picture, with a second set of heads from a convolved copy of q, k and v. The heads
// are consecutive channels of what is laid side by side, whatever projection they came from.
Value vit_block(Importer& in, const std::string& p, Value x, int64_t channels, int64_t head_dim,
                const std::vector<int64_t>& kernels) {
  GraphBuilder& g = in.graph;
  const std::string a = p + ".attn", c = p + ".conv_out";
  const int64_t heads = channels / head_dim, inner = heads * head_dim;
  std::vector<Rows> parts;
  for (const char* name : {".to_q.weight", ".to_k.weight", ".to_v.weight"})
    parts.push_back(in.rows(a + name, {inner, channels}));
  const Weight qkv = g.matrix(a + ".qkv.weight", WeightRole::kSmall, concat_rows(std::move(parts)));
  std::vector<Value> inputs = {g.linear(a + ".qkv", x, Projection{qkv, kAbsent})};
  for (size_t i = 0; i < kernels.size(); ++i) {
    const std::string scale = a + ".to_qkv_multiscale." + std::to_string(i);
    const Value spread =
        convolution(in, scale + ".proj_in", inputs[0],
                    {.outputs = 3 * inner, .kernel = kernels[i], .groups = 3 * inner, .bias = false});
    inputs.push_back(convolution(in, scale + ".proj_out", spread,
                                 {.outputs = 3 * inner, .kernel = 1, .groups = 3 * heads, .bias = false}));
  }
  fb::LinearAttentionT args;
  const auto sets = static_cast<int64_t>(inputs.size());
  args.heads = static_cast<int>(heads * sets);
  args.head_dim = args.value_dim = static_cast<int>(head_dim);
  args.activation = fb::Activation::Relu;
  args.epsilon = 1e-15f;
  args.interleaved = true;
  const Value o =
      g.node(a, GraphBuilder::args(std::move(args)), inputs, {}, {}, {g.like(x, inner * sets)})[0];
  const Value out = g.linear(a + ".to_out", o,
                             in.projection(a + ".to_out", channels, inner * sets, false, WeightRole::kSmall));
  x = rms(in, a + ".norm_out", out, channels, x);
  const int64_t wide = 8 * channels;  // expand ratio 4, two halves
  const Value h = g.linear(c + ".conv_inverted", x,
                           in.projection(c + ".conv_inverted", wide, channels, true, WeightRole::kSmall),
                           fb::Activation::Silu);
  const Value mixed =
      convolution(in, c + ".conv_depth", h,
                  {.outputs = wide, .groups = wide, .activation = fb::Activation::Silu, .gated = true});
  const Value point =
      g.linear(c + ".conv_point", mixed,
               in.projection(c + ".conv_point", channels, wide / 2, false, WeightRole::kSmall));
  return rms(in, c + ".norm", point, channels, x);
}

// Twice the size: a convolution of the enlarged picture, or one whose channels become pixels; plus the
// channels themselves as pixels.
Value up_block(Importer& in, const std::string& p, Value x, int64_t channels, bool interpolate,
               bool shortcut) {
  fb::ResampleT shuffle;
  shuffle.kind = fb::ResampleKind::Shuffle;
  shuffle.factor = 2;
  Value h;
  if (interpolate) {
    h = convolution(in, p + ".conv", x, {.outputs = channels, .upsample = 2});
  } else {
    h = resample(in, p + ".pixels", convolution(in, p + ".conv", x, {.outputs = 4 * channels}), shuffle);
  }
  return shortcut ? resample(in, p + ".shortcut", x, shuffle, h) : h;
}

struct Decoder {
  int64_t latent = 0, head_dim = 0;
  std::vector<int64_t> channels, layers;
  std::vector<std::string> kinds, activations;
  std::vector<std::vector<int64_t>> kernels;
  bool interpolate = false, in_shortcut = true;
  fb::Activation last = fb::Activation::Relu;
  size_t stages() const { return channels.size(); }
};

Value begin(Importer& in, const Decoder& d, int64_t patch) {
  GraphBuilder& g = in.graph;
  const int p = static_cast<int>(patch);
  const Value latents =
      g.input(names::kLatents, DType::kF32,
              {GraphBuilder::fixed(d.latent), g.dim(names::kHeight, p), g.dim(names::kWidth, p)});
  fb::ResampleT turn;
  turn.kind = fb::ResampleKind::Unshuffle;
  turn.planar_input = true;
  const Value x = resample(in, "decoder.latents", latents, turn);
  const Value h = convolution(in, "decoder.conv_in", x, {.outputs = d.channels.back()});
  if (!d.in_shortcut) return h;
  fb::ResampleT repeat;
  repeat.kind = fb::ResampleKind::Shuffle;  // factor 1 repeats channels
  return resample(in, "decoder.shortcut", x, repeat, h);
}

Value stage(Importer& in, const Decoder& d, size_t i, Value x) {
  int64_t child = 0;
  const std::string name = strf("decoder.up_blocks.{}.", i);
  if (i + 1 < d.stages() && d.layers[i] > 0)
    x = up_block(in, name + std::to_string(child++), x, d.channels[i], d.interpolate, true);
  for (int64_t b = 0; b < d.layers[i]; ++b) {
    const std::string block = name + std::to_string(child++);
    x = d.kinds[i] == "ResBlock"
            ? residual_block(in, block, x, d.channels[i],
                             d.activations[i] == "relu" ? fb::Activation::Relu : fb::Activation::Silu)
            : vit_block(in, block, x, d.channels[i], d.head_dim, d.kernels[i]);
  }
  return x;
}

void end(Importer& in, const Decoder& d, Value x) {
  x = rms(in, "decoder.norm_out", x, in.graph.channels(x), kAbsent, d.last);
  x = d.layers[0] > 0 ? convolution(in, "decoder.conv_out", x, {.outputs = 3})
                      : up_block(in, "decoder.conv_out", x, 3, d.interpolate, false);
  fb::ResampleT out;
  out.kind = fb::ResampleKind::Unshuffle;
  out.planar_output = true;
  in.graph.output(resample(in, "image", x, out));
}

}  // namespace

void import_dc_decoder(Importer& in, ImageFacts& facts) {
  const int64_t latent = in.integer("latent_channels", 32), head_dim = in.integer("attention_head_dim", 32);
  const std::vector<int64_t> channels =
      integers(in, "decoder_block_out_channels", {128, 256, 512, 512, 1024, 1024});
  const size_t stages = channels.size();
  const std::vector<int64_t> layers = integers(in, "decoder_layers_per_block", {3, 3, 3, 3, 3, 3});
  const auto kinds = texts(in, "decoder_block_types", "ResBlock", stages);
  const auto norms = texts(in, "decoder_norm_types", "rms_norm", stages);
  const auto activations = texts(in, "decoder_act_fns", "silu", stages);
  const std::string upsample = in.text("upsample_block_type", "pixel_shuffle");
  const bool in_shortcut = in.flag("decoder_in_shortcut", true);
  in.expect("in_channels", 3);
  const fb::Activation last = in.activation("decoder_conv_act_fn", "relu");
  if (upsample != "interpolate" && upsample != "pixel_shuffle")
    in.fail(strf("config.json: 'upsample_block_type' is '{}', Linnet supports interpolate and pixel_shuffle",
                 upsample));
  for (size_t i = 0; i < stages; ++i) {
    if (norms[i] != "rms_norm")
      in.fail(strf("config.json: 'decoder_norm_types' has '{}', Linnet supports rms_norm", norms[i]));
    if (activations[i] != "silu" && activations[i] != "relu")
      in.fail(strf("config.json: 'decoder_act_fns' has '{}', Linnet supports silu and relu", activations[i]));
    if (kinds[i] != "ResBlock" && kinds[i] != "EfficientViTBlock")
      in.fail(
          strf("config.json: 'decoder_block_types' has '{}', Linnet supports ResBlock and EfficientViTBlock",
               kinds[i]));
    if (channels[i] < 1) in.fail("config.json: 'decoder_block_out_channels' has a 0");
  }
  if (stages < 2 || layers.size() != stages || latent < 1 || head_dim < 1 || channels.back() % latent != 0)
    in.fail("config.json: the decoder's stages do not fit together");
  if (!in.errors().empty()) return;
  facts.decodes = true;
  facts.pixels_per_latent = int64_t{1} << (stages - 1);
  facts.latent_scale = in.number("scaling_factor", 1);

  Decoder d;
  d.latent = latent;
  d.head_dim = head_dim;
  d.channels = channels;
  d.layers = layers;
  d.kinds = kinds;
  d.activations = activations;
  d.interpolate = upsample == "interpolate";
  d.in_shortcut = in_shortcut;
  d.last = last;
  d.kernels.resize(stages);
  const Json none;
  const Json& scales = in.has_key("decoder_qkv_multiscales") ? in.config()["decoder_qkv_multiscales"] : none;
  for (size_t i = 0; i < stages; ++i) {
    if (scales.is_array() && i < scales.size() && scales[i].is_array()) {
      for (const Json& k : scales[i]) d.kernels[i].push_back(integer_of(k, 0, 65536).value_or(0));
    } else if (kinds[i] != "ResBlock") {
      d.kernels[i] = {5};
    }
    for (const int64_t k : d.kernels[i])
      if (k < 1 || k > 31 || k % 2 == 0)
        return in.fail("config.json: 'decoder_qkv_multiscales' needs odd kernels");
  }
  in.graph.begin_method(names::kDecodeImage, fb::Products::Single);
  Value x = begin(in, d, facts.patch);
  for (size_t i = stages; i-- > 0;) x = stage(in, d, i, x);
  end(in, d, x);
}

}  // namespace linnet::convert
