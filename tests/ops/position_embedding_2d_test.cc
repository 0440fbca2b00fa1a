#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("position_embedding_2d: like the reference, under the bound") {
  check_op(16, [](OpBuilder& op, Random& random) {
    fb::PositionEmbedding2dT args;
    args.base_size = static_cast<int>(random.pick(1, 64));
    args.interpolation_scale = random.choice({1.0f, 2.0f});
    op.args(args);
    const int64_t d = 4 * random.pick(1, 40);
    op.symbol("height", random.pick(1, 9), 20);
    op.symbol("width", random.pick(1, 15), 20);
    op.input({Extent("height"), Extent("width"), d});
    op.output({Extent("height"), Extent("width"), d});
  });
}

TEST_CASE("position_embedding_2d: golden, base size, interpolation scale and a side of another length") {
  const GoldenFile golden("position_embedding_2d");
  const auto run = [&](const char* name, int base, float scale) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      fb::PositionEmbedding2dT args;
      args.base_size = base;
      args.interpolation_scale = scale;
      b.args(args);
      b.input({6, 9, 16}, exactly(std::vector<float>(6 * 9 * 16, 0.0f)));
      b.output({6, 9, 16});
    });
    check_op_equals(*op, {golden[name]}, 2e-6);
  };
  run("pixart", 64, 2);
  run("plain", 6, 1);
}
