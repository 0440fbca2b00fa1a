#include <doctest/doctest.h>

#include "tests/ops/op_check.h"
#include "tests/ops/rounding_bound.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("logits: the last rows, within the rounding of activations") {
  for (const DType dtype : kWeightTypes) {
    CAPTURE(std::string(dtype_name(dtype)));
    check_op(6, [&](OpBuilder& op, Random& random) {
      const int64_t k = random.pick(1, 200), n = random.pick(1, 400);
      const int64_t rows = random.pick(1, op.tokens());
      fb::LogitsT args;
      args.scale = random.chance(0.5) ? 1.0f : random.uniform(0.1f, 2);
      args.softcap = random.chance(0.5) ? 0.0f : random.uniform(5, 40);
      const auto scale = static_cast<double>(args.scale);
      op.args(args);
      op.symbol("logit_tokens", rows);
      op.input({kTokens, k}, normal());
      op.matrix(dtype, n, k);
      op.output({Extent("logit_tokens"), n});
      // The cap's slope is at most 1.
      const auto x = op.input_values(0);
      auto bound = std::make_shared<std::vector<double>>(
          product_bound(dtype, x.last(static_cast<size_t>(rows * k)), op.stored_matrix(0), k));
      op.tolerance([bound, scale](size_t, size_t i) { return scale * (*bound)[i] + 3e-6; });
    });
  }
}

TEST_CASE("logits: by hand, no rows, and no more than asked for") {
  const auto logits = [](int64_t rows, std::vector<float> expected) {
    check_op_equals(*make_op(
                        [&](OpBuilder& op, Random&) {
                          fb::LogitsT args;
                          args.scale = 0.5f;
                          args.softcap = 2;
                          op.args(args);
                          op.symbol("logit_tokens", rows);
                          op.input({kTokens, 2}, exactly({100, 100, 1, 1, 2, 0}));
                          op.matrix(DType::kF32, 3, 2, exactly({1, 2, 0, 0, -4, 0}));
                          op.output({Extent("logit_tokens"), 3});
                        },
                        1, 3),
                    {expected}, 3e-7);
  };
  // 2 tanh(1 / 2), 0, 2 tanh(-4 / 2)
  logits(1, {0.924234315f, 0, -1.92805516f});
  // 2 tanh(1.5 / 2), 0, 2 tanh(-2 / 2), then the row above
  logits(2, {1.27029792f, 0, -1.52318831f, 0.924234315f, 0, -1.92805516f});
}
