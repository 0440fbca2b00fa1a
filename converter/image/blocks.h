// Pieces that the image components share.
#pragma once

#include <optional>
#include <string>

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct Convolution {
  int64_t outputs = 0, kernel = 3, groups = 1;
  bool bias = true;
  int64_t upsample = 1;
  fb::Activation activation = fb::Activation::None;
  bool gated = false;
  Value residual = kAbsent;
  WeightRole role = WeightRole::kSmall;
};

// Centred padding, stride 1. Tensors prefix.weight [outputs, inputs / groups, kernel, kernel] and
// prefix.bias.
Value convolution(Importer& in, const std::string& prefix, Value x, const Convolution& c);

Value resample(Importer& in, const std::string& name, Value x, const fb::ResampleT& args,
               Value residual = kAbsent);
// The inputs of a denoiser of pictures from text, in their order. Begins the method.
struct TextDenoiserInputs {
  Value latents;    // [channels, height * patch, width * patch]
  Value captioned;  // [text tokens, captions]
  Value mask;       // [text tokens]
  Value timestep;   // [1]
};
TextDenoiserInputs begin_text_denoiser(GraphBuilder& g, int64_t channels, int64_t patch, int64_t captions);
// The first of them, which a denoiser by class has too.
Value latents_input(GraphBuilder& g, int64_t channels, int64_t patch);

// [channels, height * patch, width * patch] -> [height, width, width of the model]; prefix.weight as a
// convolution's.
Value patch_embedding(Importer& in, const std::string& prefix, Value latents, int64_t patch, int64_t width);
// The reverse of it: x [height, width, patch * patch * channels], the channels of a patch last.
Value unpatch(Importer& in, Value x, int64_t patch, const std::string& name);

// Sinusoids of t [1], prefix.linear_1 (silu) and prefix.linear_2, as the two names given.
Value time_embedding(Importer& in, const std::string& first, const std::string& second,
                     const std::string& node, Value t, int64_t width, float frequency_shift);
// act(x) as a node of its own.
Value activate(Importer& in, const std::string& name, Value x, fb::Activation activation);
// x [1, channels, repeated if the table has more] + table.
Value add_table(Importer& in, const std::string& name, Value x, int64_t parts, int64_t channels);

// Layer norm without weights, times 1 + part `scale`, plus part `shift`.
Value modulated_norm(Importer& in, const std::string& name, Value x, float epsilon, Value modulation,
                     int shift, int scale);
// residual + part `part` of `modulation` * (x W^T + b)
Value gated_linear(Importer& in, const std::string& name, Value x, Projection projection, Value residual,
                   Value modulation, int part);
// Every query sees every key whose mask is not 0. `mask`, `table` (T5's relative positions): -1 for none.
Value attend(Importer& in, const std::string& name, fb::SoftmaxAttentionT args, Value q, Value k, Value v,
             Value mask = kAbsent, Weight table = kAbsent);
fb::SoftmaxAttentionT attention_of(int64_t heads, int64_t head_dim);
Value linear_attend(Importer& in, const std::string& name, int64_t heads, int64_t head_dim, float epsilon,
                    Value q, Value k, Value v);

// True if both tensors are there and hold the same numbers.
bool same_values(Importer& in, const std::string& a, const std::string& b, std::vector<int64_t> shape);

}  // namespace linnet::convert
