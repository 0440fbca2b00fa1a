#include <doctest/doctest.h>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("embedding: like the reference, every element type") {
  for (const DType dtype : kWeightTypes) {
    CAPTURE(std::string(dtype_name(dtype)));
    check_op(5, [&](OpBuilder& op, Random& random) {
      const int64_t vocabulary = random.pick(1, 100), d = random.pick(1, 150);
      fb::EmbeddingT args;
      args.scale = random.chance(0.5) ? 1.0f : random.uniform(0.1f, 30);
      op.args(args);
      op.tolerance(0, 0);
      op.exact_pieces();
      op.input_ids(vocabulary);
      op.matrix(dtype, vocabulary, d);
      op.output({kTokens, d});
    });
  }
}

TEST_CASE("embedding: rows are taken by id and scaled") {
  check_op_equals(*make_op(
                      [](OpBuilder& op, Random&) {
                        fb::EmbeddingT args;
                        args.scale = 2;
                        op.args(args);
                        op.input_ids(std::vector<int32_t>{2, 0, 2});
                        op.matrix(DType::kF32, 3, 2, exactly({1, 2, 3, 4, 5, 6}));
                        op.output({kTokens, 2});
                      },
                      1, 3),
                  {{10, 12, 2, 4, 10, 12}}, 0);
}
