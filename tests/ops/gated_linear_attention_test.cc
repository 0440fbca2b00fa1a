#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/compare.h"
#include "tests/ops/golden_file.h"
#include "tests/ops/mixer_cases.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

enum class Form { kAny, kNormalized, kDecayValues };

void build_case(OpBuilder& op, Random& random, Form form) {
  const int64_t heads = random.pick(1, 3), keys = random.chance(0.3) ? 1 : heads,
                values = keys == heads && random.chance(0.3) ? 1 : heads;
  const int64_t queries = random.chance(0.2) ? 1 : heads * random.pick(1, 3);
  const int64_t outputs = std::max(queries, heads);
  const int64_t K = random.choice({1, 4, 8, 24, 64}), V = random.choice({1, 5, 16, 33, 64, 100, 128});
  // One channel a head would be one decay a head.
  const bool per_channel = K > 1 && V > 1 && random.chance(form == Form::kDecayValues ? 0.8 : 0.5);
  const bool decay_values =
      form == Form::kDecayValues || (form == Form::kAny && per_channel && random.chance(0.3));
  const DecayCase decay = random_decay(random, heads, decay_values ? V : K, per_channel);
  const bool no_keys = per_channel && !decay_values && random.chance(0.2);
  const bool no_values = per_channel && decay_values && random.chance(0.5);
  fb::GatedLinearAttentionT args;
  args.query_heads = static_cast<int>(queries);
  args.key_heads = static_cast<int>(keys);
  args.value_heads = static_cast<int>(values);
  args.key_dim = static_cast<int>(K);
  args.value_dim = static_cast<int>(V);
  args.scale = 1 / std::sqrt(static_cast<float>(K));
  args.decay = args_of(decay);
  args.query_map = random_map(random, false);
  args.key_map = random_map(random, false);
  args.value_activation = random.choice({fb::Activation::None, fb::Activation::Silu});
  args.decay_values = decay_values;
  args.step_scales_write = decay.args.kind == fb::DecayKind::Softplus && !per_channel && random.chance(0.6);
  args.normalized = form == Form::kNormalized || (form == Form::kAny && !decay_values && random.chance(0.2));
  if (args.normalized) {  // sums of positive numbers: no division by almost nothing
    args.query_map->activation = args.key_map->activation = fb::Activation::Elu1;
    args.normalizer_epsilon = 1e-3f;
  }
  const bool normalized = args.normalized, skip = !no_values && random.chance(0.3);
  op.args(args);
  op.exact_pieces();
  op.tolerance(6e-6);  // reached: 6e-7
  op.state_tolerance(
      2e-5);  // reached: 8e-6, by what the rounding of states between pieces makes of a cancellation
  op.input({kTokens, queries * K});
  if (no_keys)
    op.absent_input();
  else
    op.input({kTokens, keys * K});
  if (no_values)
    op.absent_input();
  else
    op.input({kTokens, values * V});
  decay_input(op, decay);
  decay_weights(op, decay, heads);
  if (skip)
    op.vector({outputs});
  else
    op.absent_weight();
  op.state(fb::StateRole::Recurrent, {heads, K, V});
  if (normalized) op.state(fb::StateRole::Recurrent, {heads, K});
  op.output({kTokens, outputs * V});
}

void any_gated_case(OpBuilder& op, Random& random) { build_case(op, random, Form::kAny); }

}  // namespace

TEST_CASE("gated_linear_attention: like the reference for every decay, map and sharing of heads") {
  check_op(60, any_gated_case);
}

TEST_CASE(
    "gated_linear_attention: a state kept in f16, rounded by every token; pieces and single tokens bit for "
    "bit as one call") {
  check_op(20, [](OpBuilder& op, Random& random) {
    any_gated_case(op, random);
    op.options().state_dtype = DType::kF16;
    // 2^-11 of each element, kept by slow decays for many tokens; reached: 4e-4.
    op.tolerance(0.003, 1e-6);
    op.state_tolerance(0.003);
  });
}

TEST_CASE("gated_linear_attention: prompts of the normalised form and of decays of value channels") {
  for (const Form form : {Form::kNormalized, Form::kDecayValues})
    check_op(8, [form](OpBuilder& op, Random& random) {
      op.set_tokens(random.pick(16, 45));  // more than single tokens and the shortest of pieces
      build_case(op, random, form);
    });
}

TEST_CASE("gated_linear_attention: large heads over several threads") {
  check_op(3,
           [](OpBuilder& op, Random&) {
             fb::GatedLinearAttentionT args;
             args.query_heads = args.key_heads = args.value_heads = 3;
             args.key_dim = 128;
             args.value_dim = 120;
             args.decay = decay_of(fb::DecayKind::Log);
             op.args(args);
             op.exact_pieces();
             op.tolerance(1e-5);  // reached: 1e-6
             op.input({kTokens, 384});
             op.input({kTokens, 384});
             op.input({kTokens, 360});
             op.input({kTokens, 384}, uniform(-1, 0));
             op.state(fb::StateRole::Recurrent, {3, 128, 120});
             op.output({kTokens, 360});
           },
           {.most_tokens = 40});
}

TEST_CASE("gated_linear_attention: log decays down to -10000 and far too large steps stay finite") {
  for (const float most : {-1e4f, 1e4f}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::GatedLinearAttentionT args;
          args.query_heads = args.key_heads = args.value_heads = 2;
          args.key_dim = args.value_dim = 32;
          args.decay = decay_of(fb::DecayKind::Log);
          b.args(args);
          for (int i = 0; i < 3; ++i) b.input({kTokens, 64});
          b.input({kTokens, 64}, uniform(most - 10, most + 10));
          b.state(fb::StateRole::Recurrent, {2, 32, 32});
          b.output({kTokens, 64});
        },
        1, 200);
    check_finite(*op);
  }
}

namespace {
std::shared_ptr<const OpCase> golden_case(const GoldenFile& golden, const char* decay, bool scaled) {
  return make_op(
      [&](OpBuilder& b, Random&) {
        fb::GatedLinearAttentionT args;
        args.query_heads = args.key_heads = args.value_heads = 2;
        args.key_dim = 8;
        args.value_dim = 12;
        args.scale = scaled ? 1 / std::sqrt(8.0f) : 1.0f;
        const std::string name = decay;
        const bool constant = name == "log_decay";
        args.decay = decay_of(constant ? fb::DecayKind::Constant : fb::DecayKind::Log);
        b.args(args);
        b.input({kTokens, 16}, exactly(golden["q"]));
        b.input({kTokens, 16}, exactly(golden["k"]));
        b.input({kTokens, 24}, exactly(golden["v"]));
        if (!constant) b.input({kTokens, name == "g" ? 2 : 16}, exactly(golden[decay]));
        if (constant) b.vector({2}, exactly(golden[decay]));
        b.state(fb::StateRole::Recurrent, {2, 8, 12});
        b.initial_state(0, exactly(golden["initial_state"]));
        b.output({kTokens, 24});
      },
      1, 70);
}
}  // namespace

// Tolerances are the manifest's: the noise of the kernels the goldens were checked with.
TEST_CASE("gated_linear_attention: goldens of flash-linear-attention and MiniMax") {
  struct Case {
    const char *file, *decay;
    bool scaled;
    double tolerance;
  };
  for (const Case& c :
       {Case{"gla", "gk", true, 2e-4}, Case{"simple_gla", "g", true, 2e-4},
        Case{"retention", "log_decay", true, 4e-4}, Case{"lightning_fla", "log_decay", true, 5e-4},
        Case{"lightning_minimax", "log_decay", false, 1e-3}}) {
    CAPTURE(c.file);
    const GoldenFile golden(c.file);
    check_op_golden(*golden_case(golden, c.decay, c.scaled), {golden["o"]}, {golden["final_state"]},
                    c.tolerance);
  }
}

TEST_CASE("gated_linear_attention: golden of normalised linear attention") {
  const GoldenFile golden("linear_attn_normalized");
  const auto op = make_op(
      [&](OpBuilder& b, Random&) {
        fb::GatedLinearAttentionT args;
        args.query_heads = args.key_heads = args.value_heads = 2;
        args.key_dim = 8;
        args.value_dim = 12;
        args.scale = 1 / std::sqrt(8.0f);
        args.normalized = true;
        args.normalizer_epsilon = 1e-10f;
        b.args(args);
        b.input({kTokens, 16}, exactly(golden["q"]));
        b.input({kTokens, 16}, exactly(golden["k"]));
        b.input({kTokens, 24}, exactly(golden["v"]));
        b.state(fb::StateRole::Recurrent, {2, 8, 12});
        b.state(fb::StateRole::Recurrent, {2, 8});
        b.output({kTokens, 24});
      },
      1, 70);
  check_op_golden(*op, {golden["o"]}, {{}, {}}, 4e-6);  // reached: 3.6e-7
  // Sums of 70 tokens; reached: 2.3e-5, all of it the official sum in f32.
  check_op_golden(*op, {{}}, {golden["final_state_0"], golden["final_state_1"]}, 4e-5, "sums");
}

TEST_CASE("gated_linear_attention: two passes of slot attention") {
  const GoldenFile golden("gsa");
  const auto slots = make_op(
      [&](OpBuilder& b, Random&) {
        fb::GatedLinearAttentionT args;
        args.query_heads = args.key_heads = args.value_heads = 2;
        args.key_dim = 8;
        args.value_dim = 6;
        args.decay = decay_of(fb::DecayKind::Log);
        args.decay_values = true;
        b.args(args);
        b.input({kTokens, 16}, exactly(golden["q"]));
        b.input({kTokens, 16}, exactly(golden["k"]));
        b.input({kTokens, 12}, exactly(golden["s"]));
        b.input({kTokens, 12}, exactly(golden["g"]));
        b.state(fb::StateRole::Recurrent, {2, 8, 6});
        b.initial_state(0, exactly(golden["initial_state_k"]));
        b.output({kTokens, 12});
      },
      1, 70);
  for (const Backend* backend : all_backends()) {
    const OpRun first = run_op(*slots, *backend);
    const auto values = make_op(
        [&](OpBuilder& b, Random&) {
          fb::GatedLinearAttentionT args;
          args.query_heads = args.key_heads = args.value_heads = 2;
          args.key_dim = 6;
          args.value_dim = 12;
          args.decay = decay_of(fb::DecayKind::Log);
          args.query_map = std::make_unique<fb::HeadMapT>();
          args.query_map->norm = fb::HeadNorm::Softmax;
          b.args(args);
          b.input({kTokens, 12}, exactly(first.outputs[0]));
          b.input({kTokens, 12}, exactly(golden["s"]));
          b.input({kTokens, 24}, exactly(golden["v"]));
          b.input({kTokens, 12}, exactly(golden["g"]));
          b.state(fb::StateRole::Recurrent, {2, 6, 12});
          b.initial_state(0, exactly(golden["initial_state_v"]));
          b.output({kTokens, 24});
        },
        1, 70);
    const OpRun second = run_op(*values, *backend);
    const std::string name(backend->name());
    check_truth("golden", golden["o"]);
    check_below(name + ", output", largest_difference(second.outputs[0], golden["o"]),
                3e-6);  // reached: 3e-7
  }
}

TEST_CASE("gated_linear_attention: shape rules name what is wrong") {
  const auto with_decay = [](fb::DecayKind kind, bool input, bool rate) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      fb::GatedLinearAttentionT args;
      args.query_heads = args.key_heads = args.value_heads = 2;
      args.key_dim = args.value_dim = 4;
      args.decay = decay_of(kind);
      b.args(args);
      for (int i = 0; i < 3; ++i) b.input({kTokens, 8});
      if (input) b.input({kTokens, 2});
      if (rate) b.vector({2});
      b.state(fb::StateRole::Recurrent, {2, 4, 4});
      b.output({kTokens, 8});
    });
    return creation_error(*op, *all_backends()[0]);
  };
  CHECK(with_decay(fb::DecayKind::Softplus, true, true) == "");
  CHECK(with_decay(fb::DecayKind::Softplus, true, false).find("needs a rate") != std::string::npos);
  CHECK(with_decay(fb::DecayKind::Log, false, false).find("reads an input") != std::string::npos);
  CHECK(with_decay(fb::DecayKind::Constant, true, true).find("has no input") != std::string::npos);
}
