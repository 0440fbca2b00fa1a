#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("timestep_embedding: like the reference") {
  check_op(12, [](OpBuilder& op, Random& random) {
    fb::TimestepEmbeddingT args;
    args.shift = random.choice({0.0f, 1.0f});
    args.scale = random.choice({1.0f, 1000.0f});
    args.cos_first = random.chance(0.5);
    op.args(args);
    const int64_t rows = random.pick(1, 3), d = random.pick(4, 300);
    op.input({rows}, uniform(0, 1));
    op.output({rows, d});
  });
}

TEST_CASE("timestep_embedding: golden, every option of diffusers' get_timestep_embedding") {
  const GoldenFile golden("timestep_embedding");
  const auto run = [&](const char* name, float shift, float scale, bool cos_first, int64_t d) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      fb::TimestepEmbeddingT args;
      args.shift = shift;
      args.scale = scale;
      args.cos_first = cos_first;
      b.args(args);
      b.input({4}, exactly(golden["t"]));
      b.output({4, d});
    });
    // An angle near 1000 has a step of 6e-5 in f32. Reached: 3e-5.
    check_op_equals(*op, {golden[name]}, 1.3e-4);
  };
  run("sana", 0, 1, true, 64);
  run("dit", 1, 1, true, 64);
  run("sines_first", 0, 0.5f, false, 33);
}
