// Nodes of the recurrent mixers, for the importers of all families that use them. Each makes its own states.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

// The taps of a depthwise convolution of x: tensor prefix.weight [channels, 1, kernel], prefix.bias
// [channels] where the checkpoint has it. `channels` of one tensor may be shared out: rows [first, first +
// channels(x)), or, where `order` is given, row order[i] for channel i.
struct ConvolutionInput {
  Value x;
  std::string prefix;
  int64_t first = 0;
  int64_t total = 0;  // channels of the tensor; 0: those of x
  std::vector<int64_t> order = {};
};
// act(convolution) of each input, in one node.
std::vector<Value> short_convolution(Importer& in, const std::string& name,
                                     const std::vector<ConvolutionInput>& inputs, int64_t kernel,
                                     fb::Activation activation);

// The decay's parameters: weights rate and offset, -1 where absent.
struct DecayWeights {
  Weight rate = kAbsent, offset = kAbsent;
};
// Shapes follow from args; key, value and decay may be -1 as the op's rule says.
Value gated_linear_attention(Importer& in, const std::string& name, fb::GatedLinearAttentionT args,
                             Value query, Value key, Value value, Value decay, DecayWeights weights = {},
                             Weight skip = kAbsent);
Value gated_delta_rule(Importer& in, const std::string& name, fb::GatedDeltaRuleT args, Value query,
                       Value key, Value value, Value beta, Value decay, DecayWeights weights = {});

// Weights of a window_linear_attention node, -1 where absent; both maps are needed.
struct WindowLinearWeights {
  Weight query_map = kAbsent, key_map = kAbsent;
  DecayWeights decay;
  Weight log_bias = kAbsent, log_gain = kAbsent, window_factor = kAbsent, linear_factor = kAbsent;
};
// `columns` of the maps; query, key and value without rope.
Value window_linear_attention(Importer& in, const std::string& name, fb::WindowLinearAttentionT args,
                              int64_t columns, Value query, Value key, Value value,
                              const WindowLinearWeights& weights);

// f of every value of a small tensor of shape [n], as an f32 vector named `name`.
Weight mapped_vector(Importer& in, const std::string& tensor, int64_t n,
                     const std::function<double(double)>& f);

std::unique_ptr<fb::DecayT> decay(fb::DecayKind kind);
std::unique_ptr<fb::HeadMapT> head_map(fb::Activation activation, fb::HeadNorm norm = fb::HeadNorm::None,
                                       float epsilon = 0);

}  // namespace linnet::convert
