// Rotary embedding parameters from config.json, for every scaling Linnet supports.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

// Reads rope_theta, rope_scaling (or transformers 5's rope_parameters), partial_rotary_factor. Formulas
// follow transformers' modeling_rope_utils.py: default, linear, llama3, yarn. Others are refused by name.
// `default_fraction` of a head turns where the config does not say.
fb::RotaryEmbeddingT read_rope(Importer& in, int64_t head_dim, double default_theta = 10000.0,
                               double default_fraction = 1.0);

// The same for models whose kinds of layers turn differently (Gemma 3): rope_parameters[`layers`] of
// transformers 5, else `theta_key` and, where `scaled`, rope_scaling.
fb::RotaryEmbeddingT read_rope_of(Importer& in, const char* layers, const char* theta_key,
                                  double default_theta, bool scaled, int64_t head_dim);

// All channels of a head in halves, without scaling.
fb::RotaryEmbeddingT plain_rope(int64_t head_dim, double theta);

}  // namespace linnet::convert
