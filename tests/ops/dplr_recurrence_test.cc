#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/golden_file.h"
#include "tests/ops/mixer_cases.h"

using namespace linnet;
using namespace linnet::testing;

static void any_dplr_case(OpBuilder& op, Random& random) {
  const int64_t heads = random.pick(1, 4), K = random.choice({1, 4, 24, 64}),
                V = random.choice({1, 5, 33, 64});
  fb::DplrRecurrenceT args;
  args.heads = static_cast<int>(heads);
  args.key_dim = static_cast<int>(K);
  args.value_dim = static_cast<int>(V);
  args.scale = random.choice({1.0f, 0.25f});
  args.decay = decay_of(fb::DecayKind::Sigmoid);
  args.decay->slope = -0.606531f;
  args.rate_activation = fb::Activation::Sigmoid;
  args.removal_epsilon = random.choice({1e-12f, 1e-6f});
  op.args(args);
  op.exact_pieces();
  op.tolerance(3e-6);  // reached: 3e-7
  op.input({kTokens, heads * K});
  op.input({kTokens, heads * K}, uniform(-4, 4));
  op.input({kTokens, heads * K}, normal());
  op.input({kTokens, heads * V});
  op.input({kTokens, heads * K}, uniform(-3, 3));
  const bool given = random.chance(0.2);
  if (given)
    op.input({kTokens, heads * K}, uniform(-0.1f, 0.1f));
  else
    op.absent_input();
  if (random.chance(0.5)) {
    op.input({kTokens, heads * V});
    op.input({kTokens, heads * V}, uniform(-3, 3));
  }
  op.absent_weight();
  op.absent_weight();
  const auto optional = [&](bool present) {
    if (present)
      op.vector({heads * K}, uniform(0.5f, 1.5f));
    else
      op.absent_weight();
  };
  const bool bonus = random.chance(0.5);
  optional(!given && random.chance(0.7));
  optional(random.chance(0.7));
  optional(bonus);
  op.state(fb::StateRole::Recurrent, {heads, K, V});
  op.output({kTokens, heads * V});
  if (bonus) op.output({kTokens, heads * V});
}

TEST_CASE("dplr_recurrence: like the reference with and without each optional operand") {
  check_op(40, any_dplr_case);
}

TEST_CASE(
    "dplr_recurrence: a state kept in f16, rounded by every token; pieces and single tokens bit for bit as "
    "one call") {
  check_op(20, [](OpBuilder& op, Random& random) {
    any_dplr_case(op, random);
    op.options().state_dtype = DType::kF16;
    // 2^-11 of each element, kept by slow decays for many tokens; reached: 3e-4.
    op.tolerance(0.003, 1e-6);
  });
}

TEST_CASE("dplr_recurrence: decays and rates out of any range stay finite") {
  for (const float most : {-1e4f, 1e4f}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::DplrRecurrenceT args;
          args.heads = 2;
          args.key_dim = args.value_dim = 32;
          args.decay = decay_of(fb::DecayKind::Sigmoid);
          args.decay->slope = -0.606531f;
          args.rate_activation = fb::Activation::Sigmoid;
          args.removal_epsilon = 1e-24f;
          b.args(args);
          b.input({kTokens, 64});
          b.input({kTokens, 64}, uniform(most - 10, most + 10));
          for (int i = 0; i < 2; ++i) b.input({kTokens, 64});
          b.input({kTokens, 64}, uniform(most - 10, most + 10));
          b.absent_input();
          for (int i = 0; i < 5; ++i) b.absent_weight();
          b.state(fb::StateRole::Recurrent, {2, 32, 32});
          b.output({kTokens, 64});
        },
        1, 200);
    check_finite(*op);
  }
}

TEST_CASE("dplr_recurrence: golden of flash-linear-attention's RWKV-7") {
  const GoldenFile golden("rwkv7");
  const auto op = make_op(
      [&](OpBuilder& b, Random&) {
        fb::DplrRecurrenceT args;
        args.heads = 2;
        args.key_dim = args.value_dim = 8;
        args.decay = decay_of(fb::DecayKind::Log);
        b.args(args);
        for (const char* name : {"r", "w", "k", "v", "a", "kk"})
          b.input({kTokens, 16}, exactly(golden[name]));
        b.state(fb::StateRole::Recurrent, {2, 8, 8});
        b.initial_state(0, exactly(golden["initial_state"]));
        b.output({kTokens, 16});
      },
      1, 70);
  check_op_golden(*op, {golden["o"]}, {golden["final_state"]},
                  6e-5);  // reached: 5.7e-6; the manifest allows 6e-4
}
