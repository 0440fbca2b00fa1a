#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("norm: like the reference for every kind, group, weight, bias and gate") {
  check_op(60, [](OpBuilder& op, Random& random) {
    fb::NormT args;
    args.kind = random.choice({fb::NormKind::Rms, fb::NormKind::Layer, fb::NormKind::L2});
    args.epsilon = random.choice({1e-5f, 1e-6f, 1e-3f});
    const int64_t group = random.pick(1, 200), groups = random.pick(1, 6), d = group * groups;
    args.group = groups > 1 || random.chance(0.3) ? static_cast<int32_t>(group) : 0;
    args.weight_offset = random.chance(0.3) ? 1.0f : 0.0f;
    const bool gate = random.chance(0.4);
    if (gate) {
      args.gate_activation =
          random.choice({fb::Activation::Silu, fb::Activation::Sigmoid, fb::Activation::None});
      args.gate_first = random.chance(0.5);
    }
    op.args(args);
    op.exact_pieces();
    op.tolerance(3e-6, 3e-7);  // reached: 2.7e-7
    // The last: squares beyond the range of f32.
    op.input({kTokens, d}, normal(random.choice({0.01f, 1.0f, 100.0f, 1e25f})));
    if (gate) op.input({kTokens, d}, uniform(-3, 3));
    if (random.chance(0.8)) {
      const int64_t n = args.group > 0 && random.chance(0.5) ? group : d;
      op.vector({n}, uniform(0.5f, 1.5f));
      if (random.chance(0.5)) op.vector({n});
    }
    op.output({kTokens, d});
  });
}

TEST_CASE("norm: rows enough for several threads") {
  check_op(1, [](OpBuilder& op, Random&) {
    op.set_tokens(37);
    fb::NormT args;
    args.epsilon = 1e-5f;
    args.group = 96;
    op.args(args);
    op.input({kTokens, 1536}, normal());
    op.vector({96});
    op.output({kTokens, 1536});
  });
}

namespace {
std::shared_ptr<const OpCase> one_row(fb::NormT args, std::vector<float> x, std::vector<float> weight = {}) {
  return make_op([&](OpBuilder& op, Random&) {
    const auto d = static_cast<int64_t>(x.size());
    op.args(args);
    op.input({kTokens, d}, exactly(x));
    if (!weight.empty()) op.vector({d}, exactly(weight));
    op.output({kTokens, d});
  });
}
}  // namespace

TEST_CASE("norm: hand-computed rows") {
  fb::NormT args;
  SUBCASE("rms: 3 and 4 have a mean square of 12.5") {
    args.kind = fb::NormKind::Rms;
    check_op_equals(*one_row(args, {3, 4}), {{0.848528137f, 1.13137085f}}, 3e-7);
    args.weight_offset = 1;
    check_op_equals(*one_row(args, {3, 4}, {1, -1}), {{1.69705627f, 0}}, 3e-7);
  }
  SUBCASE("layer: mean 2, variance 1") {
    args.kind = fb::NormKind::Layer;
    check_op_equals(*one_row(args, {1, 3, 1, 3}), {{-1, 1, -1, 1}}, 3e-7);
  }
  SUBCASE("l2, epsilon inside the root") {
    args.kind = fb::NormKind::L2;
    check_op_equals(*one_row(args, {3, 4}), {{0.6f, 0.8f}}, 3e-7);
    args.epsilon = 11;
    check_op_equals(*one_row(args, {3, 4}), {{0.5f, 0.666666667f}}, 3e-7);
  }
  SUBCASE("squares beyond the range of f32, and below it") {
    args.kind = fb::NormKind::Rms;
    check_op_equals(*one_row(args, {3e30f, 4e30f}), {{0.848528137f, 1.13137085f}}, 3e-7);
    check_op_equals(*one_row(args, {3e-30f, 4e-30f}), {{0.848528137f, 1.13137085f}}, 3e-7);
  }
  SUBCASE("a NaN spoils the row") {
    args.kind = fb::NormKind::Rms;
    check_op_equals(*one_row(args, {3, NAN, 1}), {{NAN, NAN, NAN}}, 0, Truth::kAsGiven);
  }
}

TEST_CASE("norm: modulation, activation and residual, like the reference") {
  check_op(24, [](OpBuilder& op, Random& random) {
    fb::NormT args;
    args.kind = random.choice({fb::NormKind::Rms, fb::NormKind::Layer, fb::NormKind::L2});
    args.epsilon = 1e-6f;
    const int64_t d = random.choice({1, 16, 50, 96, 257});
    args.activation = random.choice({fb::Activation::None, fb::Activation::Relu, fb::Activation::Silu});
    const int64_t parts = random.pick(1, 6);
    if (random.chance(0.7)) args.shift_part = static_cast<int>(random.pick(0, parts - 1));
    if (random.chance(0.7)) args.scale_part = static_cast<int>(random.pick(0, parts - 1));
    const bool gate = random.chance(0.3);
    args.gate_first = random.chance(0.5);
    args.gate_activation = fb::Activation::Sigmoid;
    op.args(args);
    op.tolerance(2e-6, 2e-7);  // reached: 1.8e-7
    const int64_t rows = random.pick(1, 9);
    const float size = random.choice({1.0f, 1.0f, 1e30f});  // squares beyond the range of f32
    op.input({rows, 3, d}, normal(size));
    if (gate)
      op.input({rows, 3, d});
    else
      op.absent_input();
    if (args.shift_part >= 0 || args.scale_part >= 0)
      op.input({1, parts * d});
    else
      op.absent_input();
    if (random.chance(0.5)) op.input({rows, 3, d});
    if (random.chance(0.5)) op.vector({d});
    op.output({rows, 3, d});
  });
}

TEST_CASE("norm: groups over an image, like the reference, under the bound") {
  check_op(14, [](OpBuilder& op, Random& random) {
    fb::NormT args;
    args.kind = fb::NormKind::Group;
    args.epsilon = 1e-5f;
    const int64_t group = random.choice({1, 2, 4, 16, 33}), groups = random.pick(1, 8), d = group * groups;
    args.group = static_cast<int>(group);
    args.activation = random.choice({fb::Activation::None, fb::Activation::Silu});
    args.weight_offset = random.chance(0.5) ? 1.0f : 0.0f;
    const int64_t parts = random.pick(1, 3);
    if (random.chance(0.4)) args.shift_part = static_cast<int>(random.pick(0, parts - 1));
    if (random.chance(0.4)) args.scale_part = static_cast<int>(random.pick(0, parts - 1));
    const bool modulated = args.shift_part >= 0 || args.scale_part >= 0, residual = random.chance(0.3);
    op.args(args);
    op.tolerance(1e-5, 1e-6);  // reached: 1.2e-6
    op.symbol("height", random.pick(1, 40), 50);
    op.symbol("width", random.pick(1, 30), 40);
    const std::vector<Extent> shape = {Extent("height"), Extent("width"), d};
    op.input(shape, uniform(4, 6));  // a mean that is large beside the deviation
    if (modulated || residual) op.absent_input();
    if (modulated)
      op.input({1, parts * d});
    else if (residual)
      op.absent_input();
    if (residual) op.input(shape);
    if (random.chance(0.7)) {
      op.vector({d}, uniform(0.5f, 1.5f));
      op.vector({d});
    }
    op.output(shape);
  });
}

TEST_CASE("norm: golden, adaptive layer norm and group norm") {
  const GoldenFile golden("image_norm");
  const auto adaptive = make_op([&](OpBuilder& b, Random&) {
    fb::NormT args;
    args.kind = fb::NormKind::Layer;
    args.epsilon = 1e-6f;
    args.shift_part = 1;
    args.scale_part = 2;
    b.args(args);
    b.input({3, 5, 16}, exactly(golden["x"]));
    b.absent_input();
    b.input({1, 64}, exactly(golden["modulation"]));
    b.output({3, 5, 16});
  });
  check_op_equals(*adaptive, {golden["adaptive"]}, 1e-5);  // reached: 1e-6
  const auto group = make_op([&](OpBuilder& b, Random&) {
    fb::NormT args;
    args.kind = fb::NormKind::Group;
    args.epsilon = 1e-6f;
    args.group = 4;
    args.activation = fb::Activation::Silu;
    b.args(args);
    b.input({3, 5, 16}, exactly(golden["x"]));
    b.vector({16}, exactly(golden["weight"]));
    b.vector({16}, exactly(golden["bias"]));
    b.output({3, 5, 16});
  });
  check_op_equals(*group, {golden["group"]}, 1e-5);  // reached: 1e-6
}

TEST_CASE("norm: golden of flash-linear-attention's gated RMS norm") {
  for (const auto& [name, activation] : {std::pair{"rms_norm_gated_swish", fb::Activation::Silu},
                                         std::pair{"rms_norm_gated_sigmoid", fb::Activation::Sigmoid}}) {
    CAPTURE(name);
    const GoldenFile golden(name);
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::NormT args;
          args.kind = fb::NormKind::Rms;
          args.epsilon = 1e-5f;
          args.gate_activation = activation;
          b.args(args);
          b.input({kTokens, 24}, exactly(golden["x"]));
          b.input({kTokens, 24}, exactly(golden["gate"]));
          b.vector({24}, exactly(golden["weight"]));
          b.output({kTokens, 24});
        },
        1, 70);
    check_op_golden(*op, {golden["y"]}, {}, 4e-6,
                    name);  // reached: 1.4e-6, of which 1e-6 is the official code's
  }
}

TEST_CASE("norm: a part that the modulation has not is refused") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::NormT args;
    args.shift_part = 2;
    b.args(args);
    b.input({3, 8});
    b.absent_input();
    b.input({1, 16});
    b.output({3, 8});
  });
  CHECK(creation_error(*op, *all_backends().front()).find("no part 2 of 8 channels") != std::string::npos);
}
