// The frame every language model shares: ids -> embedding -> layers -> norm -> logits, as method "forward".
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

struct Frame {
  Value ids = kAbsent, x = kAbsent;
  Weight table = kAbsent;
  fb::Dim tokens;
};

// Starts method "forward": input_ids i32 [tokens] and the embedding x [tokens, hidden].
Frame begin_language_model(Importer& in, const std::string& table_name, int64_t vocabulary, int64_t hidden,
                           float scale = 1, bool tied = false);
// Ends it: logits f32 [logit_tokens, vocabulary]. The head is the table when tied.
void end_language_model(Importer& in, const Frame& frame, Value x, const std::string& head_name,
                        int64_t vocabulary, int64_t hidden, bool tied, float scale = 1, float softcap = 0);

// down(activation(gate x) * up x) + residual, names prefix.{gate,up,down}_proj.
Value gated_mlp(Importer& in, const std::string& prefix, Value x, int64_t hidden, int64_t intermediate,
                fb::Activation activation, bool bias = false, Value residual = kAbsent);

}  // namespace linnet::convert
