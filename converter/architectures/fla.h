// What the models of flash-linear-attention share: names, block wiring, MLP, attention layers in between, the
// short convolutions of q, k and v and the normed and gated output. Follows fla/models and fla/layers.
#pragma once

#include <functional>

#include "converter/architectures/language_model.h"

namespace linnet::convert {

struct FlaModel {
  int64_t hidden = 0, layers = 0, vocabulary = 0, intermediate = 0;
  float epsilon = 1e-6f;
  fb::Activation activation = fb::Activation::Silu;
  bool tied = false;
};

// Common keys of the config; refuses what no importer of the family reads. hidden_ratio: where the config has
// none.
FlaModel read_fla(Importer& in, double hidden_ratio = 4);

// An activation by the library's name for it: its gelu is the tanh form.
fb::Activation fla_activation(Importer& in, const std::string& key, const std::string& absent);
// The weight of a mixer's norm, none where elementwise_affine is false.
Weight fla_norm_weight(Importer& in, const std::string& name, int64_t n);

// mixer(prefix of the layer's attention, normed x, residual x, layer) returns residual + mixed.
using FlaMixer = std::function<Value(const std::string&, Value, Value, int64_t)>;
// The whole model: pre-norm blocks of mixer (or softmax attention, where config `attn` says so) and MLP.
void build_fla(Importer& in, const FlaModel& model, const FlaMixer& mixer);

// q, k and v projections, through short convolutions where use_short_conv says so.
struct FlaInputs {
  Value q, k, v;
  bool convolved;
};
FlaInputs fla_inputs(Importer& in, const std::string& prefix, Value h, const FlaModel& model,
                     int64_t query_channels, int64_t key_channels, int64_t value_channels, bool convolve,
                     fb::Activation qk_activation, fb::Activation v_activation);

// RMS norm of each head of `value_dim` channels, times activation(gate) unless gate is -1, output projection,
// residual.
Value fla_output(Importer& in, const std::string& prefix, Value o, Value gate, fb::Activation gate_activation,
                 int64_t value_dim, const FlaModel& model, Value residual);

// n heads of `config key` share of `hidden`: hidden * expand rounded down, which must divide by heads.
int64_t expanded(Importer& in, const std::string& key, double absent, int64_t hidden, int64_t heads);

}  // namespace linnet::convert
