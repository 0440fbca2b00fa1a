#include <doctest/doctest.h>

#include "tests/ops/op_check.h"
#include "tests/ops/rounding_bound.h"

using namespace linnet;
using namespace linnet::testing;

namespace {
DType any_type(Random& random) {
  return kWeightTypes.types[random.pick(0, static_cast<int64_t>(kWeightTypes.count) - 1)];
}
}  // namespace

TEST_CASE("linear: within the rounding of activations, every element type, alone and several at once") {
  check_op(40, [](OpBuilder& op, Random& random) {
    const int64_t k = random.chance(0.5) ? 32 * random.pick(1, 10) : random.pick(1, 300);
    const int64_t matrices = random.pick(1, 4);
    op.args(fb::LinearT());
    op.exact_pieces();
    op.input({kTokens, k}, normal());
    auto bounds = std::make_shared<std::vector<std::vector<double>>>();
    for (int64_t m = 0; m < matrices; ++m) {
      const int64_t n = random.pick(1, 130);
      const DType dtype = any_type(random);
      op.matrix(dtype, n, k);
      bounds->push_back(product_bound(dtype, op.input_values(0), op.stored_matrix(op.weight_count() - 1), k));
      if (random.chance(0.5))
        op.vector({n});
      else
        op.absent_weight();
      op.output({kTokens, n});
    }
    op.tolerance(
        [bounds](size_t output, size_t i) { return (*bounds)[output][i] + 1e-6; });  // reached: 0.71 of it
  });
}

TEST_CASE("linear: activation, gate and residual after the product") {
  // Whole small numbers that int8 and every weight type hold exactly, so that only the epilogue rounds.
  const Fill whole = [](Random& random, std::span<float> values) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.pick(-127, 127));
    for (size_t i = 0; i < values.size(); i += 2) values[i] = 127;  // every group's step is 1
  };
  const Fill small = [](Random& random, std::span<float> values) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.pick(-7, 7)) / 1024;
    for (size_t i = 0; i < values.size(); i += 32) values[i] = -8.0f / 1024;  // q4's step is 2^-10
  };
  for (const bool gated : {false, true}) {
    for (const fb::Activation activation :
         {fb::Activation::None, fb::Activation::Silu, fb::Activation::GeluTanh, fb::Activation::ReluSquared,
          fb::Activation::Sigmoid}) {
      CAPTURE(gated);
      CAPTURE(std::string(fb::EnumNameActivation(activation)));
      check_op(8, [&](OpBuilder& op, Random& random) {
        const int64_t k = 32 * random.pick(1, 6), n = random.pick(1, 200);
        const DType dtype = random.choice({DType::kF32, DType::kF16, DType::kQ4});
        const DType other = random.chance(0.5) ? dtype : DType::kF32;
        fb::LinearT args;
        args.activation = activation;
        args.gated = gated;
        op.args(args);
        op.exact_pieces();
        op.tolerance(1.2e-6);  // reached: 1.2e-7
        op.input({kTokens, k}, whole);
        const bool residual = random.chance(0.5);
        if (residual) op.input({kTokens, n}, uniform(-10, 10));
        op.matrix(dtype, n, k, small);
        if (random.chance(0.5))
          op.vector({n});
        else
          op.absent_weight();
        if (gated) {
          op.matrix(other, n, k, small);
          if (random.chance(0.5))
            op.vector({n});
          else
            op.absent_weight();
        }
        op.output({kTokens, n});
      });
    }
  }
}

TEST_CASE("linear: sizes at which panels are shared between threads") {
  for (const bool gated : {false, true}) {
    check_op(4,
             [&](OpBuilder& op, Random& random) {
               const int64_t k = 576, n = 1521;
               fb::LinearT args;
               args.gated = gated;
               args.activation = fb::Activation::Silu;
               op.args(args);
               op.exact_pieces();
               op.input({kTokens, k}, normal());
               for (int i = 0; i < 2; ++i) {
                 op.matrix(random.choice({DType::kQ4A, DType::kQ8}), n, k, normal(0.05f));
                 op.absent_weight();
                 if (i == 0 || !gated) op.output({kTokens, n});
               }
               // About threads and pieces, which are exact; int8 activations reach 0.009.
               op.tolerance(0.03);
             },
             {.most_tokens = 20});
  }
}

TEST_CASE("linear: by hand") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::LinearT args;
    args.activation = fb::Activation::Relu;
    args.gated = true;
    b.args(args);
    b.input({kTokens, 2}, exactly({2, 3}));
    b.input({kTokens, 2}, exactly({100, 200}));
    b.matrix(DType::kF32, 2, 2, exactly({1, 2, -1, -1}));
    b.vector({2}, exactly({0.5f, 0}));
    b.matrix(DType::kF32, 2, 2, exactly({0, 1, 1, 0}));
    b.vector({2}, exactly({-1, 0}));
    b.output({kTokens, 2});
  });
  // relu(2 + 6 + 0.5) * (3 - 1) + 100; relu(-5) * 2 + 200
  check_op_equals(*op, {{117, 200}}, 0);
}

TEST_CASE("linear: a NaN or an infinity in a token spoils that token alone") {
  for (const DType dtype : kWeightTypes) {
    CAPTURE(std::string(dtype_name(dtype)));
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          b.args(fb::LinearT());
          std::vector<float> x(3 * 64, 0.5f);
          x[64 + 7] = NAN;
          x[128 + 40] = INFINITY;
          b.input({kTokens, 64}, exactly(x));
          b.matrix(dtype, 20, 64, uniform(0.5f, 1));
          b.absent_weight();
          b.output({kTokens, 20});
        },
        1, 3);
    for (const Backend* backend : all_backends()) {
      const auto y = run_op(*op, *backend).outputs[0];
      for (size_t i = 0; i < y.size(); ++i) CHECK(std::isfinite(y[i]) == (i < 20));
    }
  }
}

TEST_CASE("linear: a gate of channels, from a part of the modulation, before the residual") {
  check_op(16, [](OpBuilder& op, Random& random) {
    fb::LinearT args;
    const int64_t k = random.pick(1, 80), n = random.pick(1, 80), parts = random.pick(1, 6);
    args.gate_part = static_cast<int>(random.pick(0, parts - 1));
    args.gated = random.chance(0.3);
    args.activation = args.gated ? fb::Activation::Silu : fb::Activation::None;
    op.args(args);
    op.tolerance(4e-6, 4e-7);  // reached: 3.6e-7
    op.input({kTokens, k});
    if (random.chance(0.7))
      op.input({kTokens, n});
    else
      op.absent_input();
    op.input({1, parts * n});
    for (int m = 0; m < (args.gated ? 2 : 1); ++m) {
      op.matrix(DType::kF32, n, k);
      op.vector({n});
    }
    op.output({kTokens, n});
  });
}
