#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {
std::vector<float> frequencies(int64_t turned, double base) {
  std::vector<float> result;
  for (int64_t i = 0; i < turned; i += 2)
    result.push_back(
        static_cast<float>(std::pow(base, -static_cast<double>(i) / static_cast<double>(turned))));
  return result;
}
}  // namespace

TEST_CASE("rotary_embedding: like the reference, partial, interleaved and scaled, one token or many") {
  check_op(24, [](OpBuilder& op, Random& random) {
    fb::RotaryEmbeddingT args;
    args.head_dim = static_cast<int32_t>(random.choice({4, 10, 16, 64, 80, 128}));
    const int64_t turned = random.chance(0.5) ? args.head_dim : 2 * random.pick(1, args.head_dim / 2);
    args.inverse_frequencies = frequencies(turned, random.chance(0.5) ? 1e4 : 1e6);
    args.interleaved = random.chance(0.5);
    args.amplitude = random.chance(0.5) ? 1.0f : random.uniform(0.8f, 1.4f);
    op.args(args);
    op.exact_pieces();
    const int64_t inputs = random.pick(1, 3);
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t d = args.head_dim * random.pick(1, 5);
      op.input({kTokens, d});
      op.output({kTokens, d});
    }
  });
}

TEST_CASE("rotary_embedding: a quarter turn per token, by hand") {
  const auto turned = [](bool interleaved, std::vector<float> expected) {
    fb::RotaryEmbeddingT args;
    args.head_dim = 5;
    args.interleaved = interleaved;
    args.inverse_frequencies = {1.5707963267948966f, 3.1415926535897931f};
    check_op_equals(*make_op(
                        [&](OpBuilder& op, Random&) {
                          op.args(args);
                          op.input({kTokens, 5}, exactly({1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5}));
                          op.output({kTokens, 5});
                        },
                        1, 3),
                    {expected}, 2e-6);
  };
  // Half-split: pairs (0, 2) by a quarter, (1, 3) by a half turn; channel 4 passes.
  turned(false, {1, 2, 3, 4, 5, -3, -2, 1, -4, 5, -1, 2, -3, 4, 5});
  turned(true, {1, 2, 3, 4, 5, -2, 1, -3, -4, 5, -1, -2, 3, 4, 5});
}
