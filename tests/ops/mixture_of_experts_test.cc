#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

// A router whose scores are far apart, so that rounding changes no choice: row e is large at channel e alone,
// and every token's first channels are distinct steps in an order of its own.
void router_and_tokens(OpBuilder& op, int64_t experts, int64_t d) {
  op.input({kTokens, d}, [=](Random& random, std::span<float> x) {
    for (float& v : x) v = random.uniform(-1, 1);
    for (size_t t = 0; t < x.size() / static_cast<size_t>(d); ++t) {
      float* row = &x[t * static_cast<size_t>(d)];
      for (int64_t e = 0; e < experts; ++e)
        row[e] = static_cast<float>(e) / static_cast<float>(experts) - 0.5f;
      for (int64_t e = experts - 1; e > 0; --e) std::swap(row[e], row[random.pick(0, e)]);
    }
  });
}
Fill diagonal(int64_t d, float size) {
  return [=](Random&, std::span<float> w) {
    for (size_t i = 0; i < w.size(); ++i)
      w[i] = i % static_cast<size_t>(d) == i / static_cast<size_t>(d) ? size : 0.0f;
  };
}

}  // namespace

TEST_CASE("mixture_of_experts: like the reference for every routing, with and without a shared expert") {
  check_op(40, [](OpBuilder& op, Random& random) {
    const int64_t experts = random.pick(1, 9), d = 32 * random.pick(1, 3),
                  inner = random.choice({16, 40, 64});
    fb::MixtureOfExpertsT args;
    args.experts = static_cast<int>(experts);
    args.top_k = static_cast<int>(random.pick(1, experts));
    args.scores = random.choice({fb::RouterScores::Softmax, fb::RouterScores::Sigmoid});
    args.renormalize = random.chance(0.6);
    args.renormalize_epsilon = random.choice({0.0f, 1e-20f, 0.01f});
    args.scale = random.choice({1.0f, 2.446f});
    args.activation = random.choice({fb::Activation::Silu, fb::Activation::GeluTanh});
    op.args(args);
    op.exact_pieces();
    op.tolerance(5e-6, 5e-7);  // reached: 5e-7
    router_and_tokens(op, experts, d);
    if (random.chance(0.5)) op.input({kTokens, d}, uniform(-5, 5));
    op.matrix(DType::kF32, experts, d, diagonal(d, 6));
    if (random.chance(0.4))
      op.vector({experts}, [](Random&, std::span<float> b) {
        for (size_t e = 0; e < b.size(); ++e) b[e] = e % 2 ? 3.0f : 0.0f;
      });
    else
      op.absent_weight();
    op.matrices(DType::kF32, experts, inner, d, normal(0.2f));
    op.matrices(random.choice({DType::kF32, DType::kF16}), experts, inner, d, normal(0.2f));
    op.matrices(DType::kF32, experts, d, inner, normal(0.2f));
    if (random.chance(0.5)) {
      const int64_t shared = random.choice({16, 48});
      op.matrix(DType::kF32, shared, d, normal(0.2f));
      op.matrix(DType::kF32, shared, d, normal(0.2f));
      op.matrix(DType::kF32, d, shared, normal(0.2f));
      if (random.chance(0.5)) op.vector({d}, normal(0.3f));
    }
    op.output({kTokens, d});
  });
}

TEST_CASE("mixture_of_experts: quantised experts, more tokens than a block, sizes that threads share") {
  for (const DType dtype : kBlockTypes) {
    check_op(3,
             [&](OpBuilder& op, Random&) {
               const int64_t experts = 12, d = 128, inner = 96;
               fb::MixtureOfExpertsT args;
               args.experts = static_cast<int>(experts);
               args.top_k = 4;
               args.renormalize = true;
               args.activation = fb::Activation::Silu;
               op.args(args);
               op.exact_pieces();
               op.tolerance(0.03);  // reached, with int8 activations: 0.0133; threads and pieces are exact
               router_and_tokens(op, experts, d);
               op.matrix(DType::kQ8, experts, d, diagonal(d, 6));
               op.absent_weight();
               op.matrices(dtype, experts, inner, d, normal(0.1f));
               op.matrices(dtype, experts, inner, d, normal(0.1f));
               op.matrices(dtype, experts, d, inner, normal(0.1f));
               op.matrix(dtype, inner, d, normal(0.1f));
               op.matrix(dtype, inner, d, normal(0.1f));
               op.matrix(dtype, d, inner, normal(0.1f));
               op.vector({d}, normal(0.3f));
               op.output({kTokens, d});
             },
             {.most_tokens = 150, .first_seed = 5});
  }
}

TEST_CASE("mixture_of_experts: by hand") {
  // Two experts of one channel, both chosen: softmax(0, ln 3) = (1/4, 3/4).
  const auto op = make_op([](OpBuilder& b, Random&) {
    fb::MixtureOfExpertsT args;
    args.experts = args.top_k = 2;
    args.scale = 2;
    args.activation = fb::Activation::Relu;
    b.args(args);
    b.input({kTokens, 1}, exactly({1}));
    b.input({kTokens, 1}, exactly({100}));
    b.matrix(DType::kF32, 2, 1, exactly({0, 1.0986123f}));
    b.absent_weight();
    b.matrices(DType::kF32, 2, 1, 1, exactly({2, 4}));
    b.matrices(DType::kF32, 2, 1, 1, exactly({1, 1}));
    b.matrices(DType::kF32, 2, 1, 1, exactly({8, 1}));
    b.matrix(DType::kF32, 1, 1, exactly({5}));
    b.matrix(DType::kF32, 1, 1, exactly({1}));
    b.matrix(DType::kF32, 1, 1, exactly({2}));
    b.vector({1}, exactly({0}));
    b.output({kTokens, 1});
  });
  // 2 (16/4 + 3*4/4) + sigmoid(0) 10 + 100
  check_op_equals(*op, {{119}}, 1e-5);  // an ulp is 8e-6; reached: 0
}
