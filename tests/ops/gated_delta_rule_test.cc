#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/golden_file.h"
#include "tests/ops/mixer_cases.h"

using namespace linnet;
using namespace linnet::testing;

static void any_delta_rule_case(OpBuilder& op, Random& random) {
  const int64_t keys = random.pick(1, 3), heads = keys * random.pick(1, 3);
  const int64_t K = random.choice({1, 4, 8, 24, 64}), V = random.choice({1, 5, 16, 33, 64, 100});
  const bool per_channel = random.chance(0.5);
  const DecayCase decay = random_decay(random, heads, K, per_channel);
  fb::GatedDeltaRuleT args;
  args.key_heads = static_cast<int>(keys);
  args.value_heads = static_cast<int>(heads);
  args.key_dim = static_cast<int>(K);
  args.value_dim = static_cast<int>(V);
  args.scale = 1 / std::sqrt(static_cast<float>(K));
  args.decay = args_of(decay);
  args.query_map = random_map(random, false);
  args.key_map = random_map(random, true);  // keys of length 1, as the rule needs to be stable
  args.value_activation = random.choice({fb::Activation::None, fb::Activation::Silu});
  args.beta_activation = fb::Activation::Sigmoid;
  args.beta_scale = random.choice({1.0f, 2.0f});
  op.args(args);
  op.exact_pieces();
  op.tolerance(9e-6);  // reached: 9e-7
  op.input({kTokens, keys * K});
  op.input({kTokens, keys * K});
  op.input({kTokens, heads * V});
  if (random.chance(0.8))
    op.input({kTokens, heads}, uniform(-3, 3));
  else
    op.absent_input();
  decay_input(op, decay);
  decay_weights(op, decay, heads);
  op.state(fb::StateRole::Recurrent, {heads, K, V});
  op.output({kTokens, heads * V});
}

TEST_CASE("gated_delta_rule: like the reference for every decay, map and grouping of heads") {
  check_op(50, any_delta_rule_case);
}

TEST_CASE(
    "gated_delta_rule: a state kept in f16, rounded by every token; pieces and single tokens bit for bit as "
    "one call") {
  check_op(20, [](OpBuilder& op, Random& random) {
    any_delta_rule_case(op, random);
    op.options().state_dtype = DType::kF16;
    // 2^-11 of each element, kept by slow decays for many tokens; reached: 8e-4.
    op.tolerance(0.008, 1e-6);
  });
}

TEST_CASE("gated_delta_rule: betas and keys out of any range stay finite") {
  const auto op = make_op(
      [&](OpBuilder& b, Random&) {
        fb::GatedDeltaRuleT args;
        args.key_heads = args.value_heads = 2;
        args.key_dim = args.value_dim = 24;
        b.args(args);
        b.input({kTokens, 48});
        b.input({kTokens, 48}, uniform(-3, 3));
        b.input({kTokens, 48});
        b.input({kTokens, 2}, uniform(5, 20));
        b.state(fb::StateRole::Recurrent, {2, 24, 24});
        b.output({kTokens, 48});
      },
      1, 300);
  check_finite(*op);
}

TEST_CASE("gated_delta_rule: log decays down to -10000 and above 0 stay finite") {
  for (const float most : {-1e4f, 1e4f})
    for (const int64_t width : {int64_t{2}, int64_t{64}}) {  // per head, per channel
      const auto op = make_op(
          [&](OpBuilder& b, Random&) {
            fb::GatedDeltaRuleT args;
            args.key_heads = args.value_heads = 2;
            args.key_dim = args.value_dim = 32;
            args.decay = decay_of(fb::DecayKind::Log);
            args.query_map = std::make_unique<fb::HeadMapT>();
            args.key_map = std::make_unique<fb::HeadMapT>();
            args.query_map->norm = args.key_map->norm = fb::HeadNorm::L2;
            args.query_map->epsilon = args.key_map->epsilon = 1e-6f;
            b.args(args);
            for (int i = 0; i < 3; ++i) b.input({kTokens, 64});
            b.input({kTokens, 2}, uniform(-1, 3));
            b.input({kTokens, width}, uniform(most - 10, most + 10));
            b.state(fb::StateRole::Recurrent, {2, 32, 32});
            b.output({kTokens, 64});
          },
          1, 200);
      check_finite(*op);
    }
}

TEST_CASE("gated_delta_rule: goldens of flash-linear-attention") {
  struct Case {
    const char* file;
    int heads, decay;  // channels of the decay; 0: none
  };
  for (const Case& c : {Case{"delta_rule", 2, 0}, Case{"gated_delta_rule", 4, 4}, Case{"kda", 2, 16}}) {
    CAPTURE(c.file);
    const GoldenFile golden(c.file);
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::GatedDeltaRuleT args;
          args.key_heads = 2;
          args.value_heads = c.heads;
          args.key_dim = 8;
          args.value_dim = 12;
          args.scale = 1 / std::sqrt(8.0f);
          if (c.decay) args.decay = decay_of(fb::DecayKind::Log);
          b.args(args);
          b.input({kTokens, 16}, exactly(golden["q"]));
          b.input({kTokens, 16}, exactly(golden["k"]));
          b.input({kTokens, c.heads * 12}, exactly(golden["v"]));
          b.input({kTokens, c.heads}, exactly(golden["beta"]));
          if (c.decay) b.input({kTokens, c.decay}, exactly(golden["g"]));
          b.state(fb::StateRole::Recurrent, {c.heads, 8, 12});
          b.initial_state(0, exactly(golden["initial_state"]));
          b.output({kTokens, c.heads * 12});
        },
        1, 70);
    check_op_golden(*op, {golden["o"]}, {golden["final_state"]}, 4e-6, c.file);  // reached: 3.6e-7
  }
}
