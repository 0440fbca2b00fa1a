#include <doctest/doctest.h>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("token_shift: like the reference") {
  check_op(20, [](OpBuilder& op, Random& random) {
    const int64_t d = random.choice({1, 7, 64, 300}), outputs = random.pick(1, 6);
    op.args(fb::TokenShiftT());
    op.exact_pieces();
    op.input({kTokens, d});
    op.state(fb::StateRole::History, {1, d});
    for (int64_t i = 0; i < outputs; ++i) {
      op.vector({d}, uniform(0, 1));
      op.output({kTokens, d});
    }
  });
}

TEST_CASE("token_shift: by hand, nothing before the first token") {
  const auto op = make_op(
      [](OpBuilder& b, Random&) {
        b.args(fb::TokenShiftT());
        b.input({kTokens, 2}, exactly({4, 8, 0, 16}));
        b.state(fb::StateRole::History, {1, 2});
        b.vector({2}, exactly({0.5f, 0.25f}));
        b.output({kTokens, 2});
      },
      1, 2);
  check_op_equals(*op, {{2, 6, 2, 14}}, 0);
}
