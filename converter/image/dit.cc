// DiT, the class-conditional diffusion transformer, and LiT, which differs in its attention (attention.h).
// Follows diffusers' dit_transformer_2d.py and the original code, whose tensor names and time frequencies
// differ.
#include <algorithm>

#include "converter/image/attention.h"
#include "converter/image/blocks.h"
#include "converter/image/components.h"
#include "format/names.h"

namespace linnet::convert {
namespace {

struct Names {
  bool original;
  std::string block(int64_t i) const {
    return (original ? "blocks." : "transformer_blocks.") + std::to_string(i);
  }
};

struct Conditioning {
  Value time, labels;
  int64_t width, classes;
};

// Time and class embedding, activated. diffusers stores a copy of it in every block.
Value conditioning(Importer& in, const Names& names, const Conditioning& c, const std::string& node,
                   int64_t block) {
  GraphBuilder& g = in.graph;
  const std::string p = names.original ? "" : names.block(block) + ".norm1.emb.";
  const std::string time = names.original ? "t_embedder.mlp." : p + "timestep_embedder.linear_";
  const std::string table =
      names.original ? "y_embedder.embedding_table.weight" : p + "class_embedder.embedding_table.weight";
  const Value t = time_embedding(in, time + (names.original ? "0" : "1"), time + "2", node + ".time", c.time,
                                 c.width, names.original ? 0.0f : 1.0f);
  const Value y =
      g.embedding(node + ".class", c.labels, in.matrix(table, c.classes, c.width, WeightRole::kEmbedding));
  return activate(in, node, g.add(node + ".sum", t, y), fb::Activation::Silu);
}

// True if block i's embedder is block 0's.
bool same_embedder(Importer& in, const Names& names, int64_t i, const Conditioning& c) {
  const std::string a = names.block(0) + ".norm1.emb.", b = names.block(i) + ".norm1.emb.";
  const std::string time = "timestep_embedder.linear_";
  return same_values(in, a + time + "1.weight", b + time + "1.weight", {c.width, 256}) &&
         same_values(in, a + time + "2.weight", b + time + "2.weight", {c.width, c.width}) &&
         same_values(in, a + time + "1.bias", b + time + "1.bias", {c.width}) &&
         same_values(in, a + time + "2.bias", b + time + "2.bias", {c.width}) &&
         same_values(in, a + "class_embedder.embedding_table.weight",
                     b + "class_embedder.embedding_table.weight", {c.classes, c.width});
}

}  // namespace

void import_dit(Importer& in, ImageFacts& facts) {
  GraphBuilder& g = in.graph;
  const Names names{in.has("x_embedder.proj.weight")};
  const int64_t heads = in.integer("num_attention_heads", 16),
                head_dim = in.integer("attention_head_dim", 72);
  const int64_t width = heads * head_dim, channels = in.integer("in_channels", 4);
  // The original code predicts a variance too; diffusers where the configuration says so.
  const int64_t outputs = in.integer("out_channels", names.original ? 2 * channels : channels),
                patch = in.integer("patch_size", 2);
  const int64_t layers = in.integer("num_layers", 28), size = in.integer("sample_size", 32);
  const int64_t classes = in.integer("num_embeds_ada_norm", 1000);
  // Of the norm before the MLP; the other is 1e-6 always.
  const auto epsilon = names.original ? 1e-6f : static_cast<float>(in.number("norm_eps", 1e-5));
  const bool bias = in.flag("attention_bias", true);
  in.expect("norm_type", "ada_norm_zero");
  in.expect("norm_elementwise_affine", false);
  in.expect("activation_fn", "gelu-approximate");
  if (!in.errors().empty() || patch < 1 || width < 1) return;
  facts.latent_channels = channels;
  facts.latent_size = size;
  facts.patch = patch;
  facts.classes = classes;
  facts.guidance_channels = names.original ? 3 : 0;

  g.begin_method(names::kDenoise);
  const Value latents = latents_input(g, channels, patch);
  const Value timestep = g.input(names::kTimestep, DType::kF32, {GraphBuilder::fixed(1)});
  const Value labels = g.input(names::kClassLabels, DType::kI32, {GraphBuilder::fixed(1)});
  const Conditioning c{timestep, labels, width, classes + 1};
  const Value first = conditioning(in, names, c, "conditioning", 0);
  Value x = patch_embedding(in, names.original ? "x_embedder.proj" : "pos_embed.proj", latents, patch, width);
  in.ignore("pos_embed");
  in.ignore("pos_embed.pos_embed");
  fb::PositionEmbedding2dT positions;
  positions.base_size = static_cast<int>(std::max<int64_t>(size / patch, 1));
  x = g.node("positions", GraphBuilder::args(std::move(positions)), {x}, {}, {}, {g.shape(x)})[0];
  const SelfAttention self = SelfAttention::read(in, width, heads, head_dim, bias);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string b = names.block(i);
    const bool own = !names.original && i > 0 && !same_embedder(in, names, i, c);
    const Value cond = own ? conditioning(in, names, c, b + ".conditioning", i) : first;
    const Value parts =
        g.linear(b + ".modulation", cond,
                 in.projection(names.original ? b + ".adaLN_modulation.1" : b + ".norm1.linear", 6 * width,
                               width, true, WeightRole::kSmall));
    const Value h = modulated_norm(in, b + ".norm1", x, 1e-6f, parts, 0, 1);
    x = self.apply(in, b + (names.original ? ".attn" : ".attn1"), h, x, parts, 2);
    const Value h2 = modulated_norm(in, b + ".norm2", x, epsilon, parts, 3, 4);
    const Value wide = g.linear(
        b + ".mlp.hidden", h2,
        in.projection(names.original ? b + ".mlp.fc1" : b + ".ff.net.0.proj", 4 * width, width, true),
        fb::Activation::GeluTanh);
    x = gated_linear(in, b + ".mlp", wide,
                     in.projection(names.original ? b + ".mlp.fc2" : b + ".ff.net.2", width, 4 * width, true),
                     x, parts, 5);
  }
  const Value last = g.linear("final.modulation", first,
                              in.projection(names.original ? "final_layer.adaLN_modulation.1" : "proj_out_1",
                                            2 * width, width, true, WeightRole::kCondition));
  x = modulated_norm(in, "final.norm", x, 1e-6f, last, 0, 1);
  x = g.linear("final.linear", x,
               in.projection(names.original ? "final_layer.linear" : "proj_out_2", patch * patch * outputs,
                             width, true, WeightRole::kCondition));
  g.output(unpatch(in, x, patch, "output"));
}

}  // namespace linnet::convert
