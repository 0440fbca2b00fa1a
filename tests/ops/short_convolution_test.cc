#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

TEST_CASE("short_convolution: like the reference for kernels, biases and several inputs at once") {
  check_op(40, [](OpBuilder& op, Random& random) {
    fb::ShortConvolutionT args;
    args.kernel = static_cast<int>(random.pick(2, 5));
    args.activation = random.choice({fb::Activation::None, fb::Activation::Silu});
    const int kernel = args.kernel;
    op.args(args);
    op.exact_pieces();
    const int64_t inputs = random.pick(1, 3);
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t d = random.choice({1, 7, 64, 100, 257});
      op.input({kTokens, d});
      op.vector({kernel, d});
      if (random.chance(0.5))
        op.vector({d});
      else
        op.absent_weight();
      op.state(fb::StateRole::History, {kernel - 1, d});
      op.output({kTokens, d});
    }
  });
}

TEST_CASE("short_convolution: by hand, the last tap meets the token") {
  const auto op = make_op(
      [](OpBuilder& b, Random&) {
        fb::ShortConvolutionT args;
        args.kernel = 3;
        b.args(args);
        b.input({kTokens, 1}, exactly({1, 10, 100, 1000}));
        b.vector({3, 1}, exactly({3, 2, 1}));
        b.vector({1}, exactly({0.5f}));
        b.state(fb::StateRole::History, {2, 1});
        b.output({kTokens, 1});
      },
      1, 4);
  check_op_equals(*op, {{1.5f, 12.5f, 123.5f, 1230.5f}}, 0);
}

TEST_CASE("short_convolution: golden") {
  const GoldenFile golden("causal_conv1d");
  // The golden is [channels, taps], its states hold the last 4 inputs of which ours are the last 3.
  const auto turned = [](const std::vector<float>& values, size_t columns, size_t first) {
    std::vector<float> result;
    for (size_t c = first; c < columns; ++c)
      for (size_t r = 0; r < values.size() / columns; ++r) result.push_back(values[r * columns + c]);
    return result;
  };
  const auto op = make_op(
      [&](OpBuilder& b, Random&) {
        fb::ShortConvolutionT args;
        args.kernel = 4;
        args.activation = fb::Activation::Silu;
        b.args(args);
        b.input({kTokens, 20}, exactly(golden["x"]));
        b.vector({4, 20}, exactly(turned(golden["weight"], 4, 0)));
        b.vector({20}, exactly(golden["bias"]));
        b.state(fb::StateRole::History, {3, 20});
        b.initial_state(0, exactly(turned(golden["initial_state"], 4, 1)));
        b.output({kTokens, 20});
      },
      1, 70);
  check_op_equals(*op, {golden["y"]}, 1e-5);  // reached: 1e-6
  for (const Backend* backend : all_backends())
    CHECK(run_op(*op, *backend).states[0] == turned(golden["final_state"], 4, 1));
}
