#include <doctest/doctest.h>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("concat_heads: like the reference for one to four inputs, of each head or shared by all") {
  check_op(24, [](OpBuilder& op, Random& random) {
    fb::ConcatHeadsT args;
    args.heads = static_cast<int>(random.pick(1, 5));
    const int64_t inputs = random.pick(1, 4);
    std::vector<int64_t> widths;
    int64_t joined = 0;
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t size = random.choice({1, 3, 16, 33, 64});
      args.sizes.push_back(static_cast<int>(size));
      // The last input may have one head's channels, which every head then gets.
      widths.push_back(i > 0 && random.chance(0.4) ? size : args.heads * size);
      joined += size;
    }
    const int64_t width = args.heads * joined;
    op.args(args);
    op.tolerance(0, 0);  // it copies
    op.exact_pieces();
    for (const int64_t w : widths) op.input({kTokens, w});
    op.output({kTokens, width});
  });
}

TEST_CASE("concat_heads: each head's channels in turn, shared ones repeated") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::ConcatHeadsT args;
    args.heads = 2;
    args.sizes = {1, 2};
    b.args(args);
    b.input({kTokens, 2}, exactly({1, 2}));
    b.input({kTokens, 2}, exactly({8, 9}));
    b.output({kTokens, 6});
  });
  check_op_equals(*op, {{1, 8, 9, 2, 8, 9}}, 0);
}
