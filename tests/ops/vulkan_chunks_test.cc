// The chunk forms of the recurrences on Vulkan (backends/vulkan/shaders/chunk.glsl) and their token forms:
// both like the reference, and not in the same bits, or it would be one form that ran. The tests of the ops
// themselves have more cases, of whichever form their tokens give.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <span>

#include "backends/reference/reference.h"
#include "tests/ops/mixer_cases.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

// Kept for as long as the process lives, as vulkan_test_backend().
const VulkanBackend* without_chunks() {
  static const VulkanBackend* const backend = []() -> const VulkanBackend* {
    VulkanOptions options;
    options.without = {"chunks"};
    auto made = open_test_vulkan(options);
    REQUIRE(made);
    return made->release();
  }();
  return backend;
}

void check_both(const OpCase& op, double tolerance) {
  const OpRun truth = run_op(op, reference_backend()), by_tokens = run_op(op, *without_chunks()),
              in_chunks = run_op(op, *vulkan_test_backend());
  for (const OpRun* found : {&by_tokens, &in_chunks}) {
    CAPTURE(found == &in_chunks);
    for (size_t i = 0; i < truth.outputs.size(); ++i)
      check_below("output", relative_difference(found->outputs[i], truth.outputs[i]), tolerance);
    for (size_t i = 0; i < truth.states.size(); ++i)
      check_below("state", relative_difference(found->states[i], truth.states[i]), tolerance);
  }
  CHECK(by_tokens.outputs != in_chunks.outputs);
}

// f(tokens, kind, per_channel) for two whole chunks and for several with a rest, each kind by head and by
// channel.
template <class F>
void for_decays(std::initializer_list<fb::DecayKind> kinds, const F& f) {
  for (const int64_t tokens : {16, 29})
    for (const fb::DecayKind kind : kinds)
      for (const bool per_channel : {false, true}) {
        if (kind == fb::DecayKind::None && per_channel) continue;
        CAPTURE(tokens);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(per_channel);
        f(tokens, kind, per_channel);
      }
}

// Gated linear attention of any shape with this decay: normalised, or with decays of values where there are
// any.
std::shared_ptr<const OpCase> random_attention(fb::DecayKind kind, bool per_channel, bool normalized,
                                               uint64_t seed) {
  Random shape(seed);
  const int64_t tokens = shape.pick(16, 45);
  return make_op(
      [&](OpBuilder& b, Random& random) {
        const int64_t heads = random.pick(1, 3), keys = random.chance(0.4) ? 1 : heads,
                      values = keys == heads && random.chance(0.4) ? 1 : heads;
        const int64_t queries = random.chance(0.3) ? 1 : heads * random.pick(1, 2),
                      outputs = std::max(queries, heads);
        const int64_t k = random.choice({5, 24, 64}), v = random.choice({12, 33, 80});
        const DecayCase decay = random_decay(random, kind, heads, normalized ? k : v, per_channel);
        const bool no_keys = normalized && per_channel && random.chance(0.3),
                   no_values = !normalized && per_channel && random.chance(0.4);
        fb::GatedLinearAttentionT args;
        args.query_heads = static_cast<int>(queries);
        args.key_heads = static_cast<int>(keys);
        args.value_heads = static_cast<int>(values);
        args.key_dim = static_cast<int>(k);
        args.value_dim = static_cast<int>(v);
        args.scale = 0.3f;
        args.decay = args_of(decay);
        args.query_map = random_map(random, false);
        args.key_map = random_map(random, false);
        args.value_activation = random.choice({fb::Activation::None, fb::Activation::Silu});
        args.decay_values = !normalized;
        args.normalized = normalized;
        args.step_scales_write = kind == fb::DecayKind::Softplus && !per_channel;
        if (normalized) {  // sums of positive numbers: no division by almost nothing
          args.query_map->activation = args.key_map->activation = fb::Activation::Elu1;
          args.normalizer_epsilon = 1e-3f;
        }
        b.args(args);
        b.input({kTokens, queries * k});
        if (no_keys)
          b.absent_input();
        else
          b.input({kTokens, keys * k});
        if (no_values)
          b.absent_input();
        else
          b.input({kTokens, values * v});
        decay_input(b, decay);
        decay_weights(b, decay, heads);
        if (no_values || random.chance(0.5))
          b.absent_weight();
        else
          b.vector({outputs});
        b.state(fb::StateRole::Recurrent, {heads, k, v});
        b.initial_state(0, normal());
        if (normalized) {
          b.state(fb::StateRole::Recurrent, {heads, k});
          b.initial_state(1, uniform(0, 2));
        }
        b.output({kTokens, outputs * v});
      },
      seed, tokens);
}

constexpr fb::DecayKind kOfHeads[] = {fb::DecayKind::None,        fb::DecayKind::Constant,
                                      fb::DecayKind::Log,         fb::DecayKind::LogSigmoid,
                                      fb::DecayKind::Softplus,    fb::DecayKind::Sigmoid,
                                      fb::DecayKind::LowerBounded},
                        kOfChannels[] = {fb::DecayKind::Log, fb::DecayKind::LogSigmoid,
                                         fb::DecayKind::Softplus, fb::DecayKind::Sigmoid,
                                         fb::DecayKind::LowerBounded};

void check_attention(bool normalized, uint64_t first_seed) {
  uint64_t seed = first_seed;
  for (const bool per_channel : {false, true})
    for (const fb::DecayKind kind :
         per_channel ? std::span<const fb::DecayKind>(kOfChannels) : std::span(kOfHeads)) {
      CAPTURE(per_channel);
      CAPTURE(static_cast<int>(kind));
      CAPTURE(seed);
      check_both(*random_attention(kind, per_channel, normalized, seed++), 2e-5);
    }
}

}  // namespace

TEST_CASE("normalised gated linear attention by tokens and in chunks: every decay, of any shape") {
  if (!vulkan_test_backend()) return;
  check_attention(true, 100);
}

TEST_CASE("gated linear attention with decays of values by tokens and in chunks: every decay, of any shape") {
  if (!vulkan_test_backend()) return;
  check_attention(false, 200);
}

TEST_CASE("gated linear attention by tokens and in chunks: decays, maps and heads that share") {
  if (!vulkan_test_backend()) return;
  using Kind = fb::DecayKind;
  for_decays({Kind::None, Kind::Log, Kind::Softplus, Kind::LowerBounded},
             [](int64_t tokens, Kind kind, bool per_channel) {
               const auto op = make_op(
                   [&](OpBuilder& b, Random&) {
                     const int64_t heads = 2, k = per_channel ? 24 : 64, v = per_channel ? 33 : 16;
                     const bool no_keys = per_channel && kind == Kind::LowerBounded;
                     fb::GatedLinearAttentionT args;
                     args.query_heads = 4;
                     args.key_heads = no_keys ? 2 : 1;
                     args.value_heads = 2;
                     args.key_dim = static_cast<int>(k);
                     args.value_dim = static_cast<int>(v);
                     args.scale = 0.2f;
                     args.decay = decay_of(kind);
                     args.step_scales_write = kind == Kind::Softplus && !per_channel;
                     args.query_map = std::make_unique<fb::HeadMapT>();
                     args.query_map->norm = per_channel ? fb::HeadNorm::Softmax : fb::HeadNorm::L2;
                     args.key_map = std::make_unique<fb::HeadMapT>();
                     args.key_map->norm = kind == Kind::Log ? fb::HeadNorm::L2 : fb::HeadNorm::None;
                     const int64_t width = per_channel ? heads * k : heads;
                     b.args(args);
                     b.input({kTokens, 4 * k});
                     if (no_keys)
                       b.absent_input();
                     else
                       b.input({kTokens, args.key_heads * k});
                     b.input({kTokens, heads * v});
                     if (kind == Kind::None)
                       b.absent_input();
                     else
                       b.input({kTokens, width}, uniform(-3, 0.2f));
                     if (kind == Kind::Softplus)
                       b.vector({heads}, uniform(-1, 0));
                     else
                       b.absent_weight();
                     if (kind == Kind::LowerBounded)
                       b.vector({width}, uniform(0, 1));
                     else
                       b.absent_weight();
                     b.vector({4});
                     b.state(fb::StateRole::Recurrent, {heads, k, v});
                     b.initial_state(0, normal());
                     b.output({kTokens, 4 * v});
                   },
                   static_cast<uint64_t>(tokens), tokens);
               check_both(*op, 2e-5);
             });
}

TEST_CASE("gated delta rule by tokens and in chunks: decays, maps and heads that share") {
  if (!vulkan_test_backend()) return;
  using Kind = fb::DecayKind;
  for_decays({Kind::None, Kind::Log, Kind::Softplus}, [](int64_t tokens, Kind kind, bool per_channel) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          const int64_t heads = 2, k = per_channel ? 24 : 64, v = per_channel ? 33 : 16;
          fb::GatedDeltaRuleT args;
          args.key_heads = 1;
          args.value_heads = 2;
          args.key_dim = static_cast<int>(k);
          args.value_dim = static_cast<int>(v);
          args.scale = 0.2f;
          args.decay = decay_of(kind);
          args.query_map = std::make_unique<fb::HeadMapT>();
          args.key_map = std::make_unique<fb::HeadMapT>();
          args.query_map->norm = per_channel ? fb::HeadNorm::None : fb::HeadNorm::L2;
          args.key_map->norm = fb::HeadNorm::L2;
          args.key_map->activation = fb::Activation::Silu;
          args.value_activation = fb::Activation::Silu;
          args.beta_activation = fb::Activation::Sigmoid;
          args.beta_scale = 2;
          b.args(args);
          for (int i = 0; i < 2; ++i) b.input({kTokens, k});
          b.input({kTokens, heads * v});
          if (tokens == 16)
            b.absent_input();
          else
            b.input({kTokens, heads}, uniform(-3, 3));
          if (kind == Kind::None)
            b.absent_input();
          else
            b.input({kTokens, per_channel ? heads * k : heads}, uniform(-3, 0.2f));
          if (kind == Kind::Softplus) b.vector({heads}, uniform(-1, 0));
          b.state(fb::StateRole::Recurrent, {heads, k, v});
          b.initial_state(0, normal());
          b.output({kTokens, heads * v});
        },
        static_cast<uint64_t>(tokens), tokens);
    check_both(*op, 3e-5);
  });
}

TEST_CASE("RWKV-7's recurrence by tokens and in chunks: with and without each optional operand") {
  if (!vulkan_test_backend()) return;
  for (const int64_t tokens : {16, 29})
    for (const bool all : {false, true}) {
      CAPTURE(tokens);
      CAPTURE(all);
      const auto op = make_op(
          [&](OpBuilder& b, Random&) {
            const int64_t heads = 2, k = all ? 64 : 24, v = all ? 64 : 33;
            fb::DplrRecurrenceT args;
            args.heads = static_cast<int>(heads);
            args.key_dim = static_cast<int>(k);
            args.value_dim = static_cast<int>(v);
            args.scale = 0.3f;
            args.decay = decay_of(fb::DecayKind::Sigmoid);
            args.decay->slope = -0.606531f;
            args.rate_activation = fb::Activation::Sigmoid;
            args.removal_epsilon = 1e-12f;
            b.args(args);
            b.input({kTokens, heads * k});
            b.input({kTokens, heads * k}, uniform(-4, 4));
            b.input({kTokens, heads * k}, normal());
            b.input({kTokens, heads * v});
            b.input({kTokens, heads * k}, uniform(-3, 3));
            if (all)
              b.absent_input();
            else
              b.input({kTokens, heads * k}, uniform(-0.1f, 0.1f));
            if (all)
              for (int i = 0; i < 2; ++i) b.input({kTokens, heads * v}, uniform(-3, 3));
            b.absent_weight();
            b.absent_weight();
            if (all)
              for (int i = 0; i < 3; ++i) b.vector({heads * k}, uniform(0.5f, 1.5f));
            b.state(fb::StateRole::Recurrent, {heads, k, v});
            b.initial_state(0, normal());
            b.output({kTokens, heads * v});
            if (all) b.output({kTokens, heads * v});
          },
          static_cast<uint64_t>(tokens), tokens);
      check_both(*op, 3e-5);
    }
  check_silent(*without_chunks());
  check_vulkan_messages();
}
