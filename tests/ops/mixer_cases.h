// Random decays and maps of heads for the tests of the recurrent mixers.
#pragma once

#include "tests/ops/op_check.h"

namespace linnet::testing {

// How the decay's operands are to be made, for `heads` heads of `channels` channels.
struct DecayCase {
  fb::DecayT args;
  bool reads = false;  // there is an input
  int64_t width = 0;   // its channels
  bool rate = false, offset = false;
  Fill input = uniform(-2, 2), rates = uniform(-1, 0), offsets = uniform(-1, 1);
};

// A decay of this kind.
inline DecayCase random_decay(Random& random, fb::DecayKind kind, int64_t heads, int64_t channels,
                              bool per_channel) {
  using Kind = fb::DecayKind;
  DecayCase c;
  c.args.kind = kind;
  c.reads = c.args.kind != Kind::None && c.args.kind != Kind::Constant;
  c.width = per_channel ? heads * channels : heads;
  switch (c.args.kind) {
    case Kind::None:
      break;
    case Kind::Constant:
      c.rate = true;
      break;
    case Kind::Log:
      c.input = uniform(-3, 0.2f);  // above 0 counts as 0
      break;
    case Kind::LogSigmoid:
      c.args.divisor = random.choice({1.0f, 16.0f});
      c.args.minimum = random.choice({0.0f, -0.05f});
      c.offset = random.chance(0.5);
      break;
    case Kind::Softplus:
      c.rate = true;
      c.offset = random.chance(0.5);
      c.args.step_minimum = random.choice({0.0f, 0.3f});
      c.args.step_maximum = random.choice({0.0f, 1.5f});
      break;
    case Kind::Sigmoid:
      c.args.slope = random.choice({-0.6f, -5.0f});
      c.rate = random.chance(0.5);
      c.rates = uniform(0.5f, 2);
      c.offset = random.chance(0.5);
      break;
    case Kind::LowerBounded:
      c.offset = true;
      c.offsets = uniform(0, 1);
      break;
  }
  return c;
}
inline DecayCase random_decay(Random& random, int64_t heads, int64_t channels, bool per_channel) {
  using Kind = fb::DecayKind;
  const Kind kind =
      per_channel
          ? random.choice({Kind::Log, Kind::LogSigmoid, Kind::Softplus, Kind::Sigmoid, Kind::LowerBounded})
          : random.choice({Kind::None, Kind::Constant, Kind::Log, Kind::LogSigmoid, Kind::Softplus,
                           Kind::Sigmoid, Kind::LowerBounded});
  return random_decay(random, kind, heads, channels, per_channel);
}
inline void decay_input(OpBuilder& op, const DecayCase& c) {
  if (c.reads)
    op.input({kTokens, c.width}, c.input);
  else
    op.absent_input();
}
// rate and offset
inline void decay_weights(OpBuilder& op, const DecayCase& c, int64_t heads) {
  if (c.rate)
    op.vector({heads}, c.rates);
  else
    op.absent_weight();
  if (c.offset)
    op.vector({c.width}, c.offsets);
  else
    op.absent_weight();
}
inline std::unique_ptr<fb::DecayT> args_of(const DecayCase& c) {
  return std::make_unique<fb::DecayT>(c.args);
}

inline std::unique_ptr<fb::HeadMapT> random_map(Random& random, bool l2) {
  fb::HeadMapT map;
  map.norm =
      l2 ? fb::HeadNorm::L2
         : random.choice({fb::HeadNorm::None, fb::HeadNorm::L2, fb::HeadNorm::Softmax, fb::HeadNorm::Sum});
  map.activation = random.choice({fb::Activation::None, fb::Activation::Silu, fb::Activation::Elu1});
  // Sums of positive numbers: no division by almost nothing.
  const bool sum = map.norm == fb::HeadNorm::Sum;
  if (sum) map.activation = fb::Activation::Elu1;
  map.epsilon = sum && random.chance(0.5) ? 0.3f : 1e-6f;
  return std::make_unique<fb::HeadMapT>(map);
}
inline std::unique_ptr<fb::DecayT> decay_of(fb::DecayKind kind) {
  auto decay = std::make_unique<fb::DecayT>();
  decay->kind = kind;
  return decay;
}

}  // namespace linnet::testing
