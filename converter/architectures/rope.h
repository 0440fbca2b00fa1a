// Rotary embedding parameters from config.json, for every scaling Linnet supports.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

// Reads rope_theta, rope_scaling (or transformers 5's rope_parameters), partial_rotary_factor. Formulas
// follow transformers' modeling_rope_utils.py: default, linear, llama3, yarn. Others are refused by name.
// `default_fraction` of a head turns where the config does not say.
fb::RotaryEmbeddingT read_rope(Importer& in, int64_t head_dim, double default_theta = 10000.0,
                               double default_fraction = 1.0);

// All channels of a head in halves, without scaling.
fb::RotaryEmbeddingT plain_rope(int64_t head_dim, double theta);

}  // namespace linnet::convert
