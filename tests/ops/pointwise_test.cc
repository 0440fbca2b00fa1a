#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {
constexpr fb::PointwiseKind kKinds[] = {fb::PointwiseKind::Add,      fb::PointwiseKind::Multiply,
                                        fb::PointwiseKind::Activate, fb::PointwiseKind::ActivateMultiply,
                                        fb::PointwiseKind::Scale,    fb::PointwiseKind::Softcap,
                                        fb::PointwiseKind::ScaledAdd};
bool is_binary(fb::PointwiseKind kind) {
  return kind == fb::PointwiseKind::Add || kind == fb::PointwiseKind::Multiply ||
         kind == fb::PointwiseKind::ActivateMultiply || kind == fb::PointwiseKind::ScaledAdd;
}
}  // namespace

TEST_CASE("pointwise: like the reference for every kind and activation") {
  for (const fb::PointwiseKind kind : kKinds) {
    for (const fb::Activation activation : fb::EnumValuesActivation()) {
      if (activation != fb::Activation::None && kind != fb::PointwiseKind::Activate &&
          kind != fb::PointwiseKind::ActivateMultiply)
        continue;
      CAPTURE(std::string(fb::EnumNamePointwiseKind(kind)));
      CAPTURE(std::string(fb::EnumNameActivation(activation)));
      check_op(4, [&](OpBuilder& op, Random& random) {
        const int64_t d = random.pick(1, 700);
        fb::PointwiseT args;
        args.kind = kind;
        args.activation = activation;
        args.alpha = random.uniform(0.5f, 30);
        args.beta = random.uniform(-3, 3);
        op.args(args);
        op.exact_pieces();
        // Wide enough for both tails of every activation, small enough that e^x stays in proportion.
        const float wide = activation == fb::Activation::Exp ? 6.0f : 12.0f;
        op.input({kTokens, d}, uniform(-wide, wide));
        if (is_binary(kind)) op.input({kTokens, d}, normal());
        op.output({kTokens, d});
      });
    }
  }
}

TEST_CASE("pointwise: enough elements for several threads, uneven") {
  check_op(1, [](OpBuilder& op, Random&) {
    fb::PointwiseT args;
    args.kind = fb::PointwiseKind::ActivateMultiply;
    args.activation = fb::Activation::Silu;
    op.args(args);
    op.input({kTokens, 100003});
    op.input({kTokens, 100003});
    op.output({kTokens, 100003});
  });
}

TEST_CASE("pointwise: hand-computed values, infinities and NaN") {
  const float inf = INFINITY;
  const auto activate = [](fb::Activation activation, std::vector<float> x, std::vector<float> y) {
    CAPTURE(std::string(fb::EnumNameActivation(activation)));
    check_op_equals(*make_op([&](OpBuilder& op, Random&) {
      fb::PointwiseT args;
      args.kind = fb::PointwiseKind::Activate;
      args.activation = activation;
      op.args(args);
      op.input({kTokens, static_cast<int64_t>(x.size())}, exactly(x));
      op.output({kTokens, static_cast<int64_t>(x.size())});
    }),
                    {y}, 3e-7, Truth::kAsGiven);
  };
  activate(fb::Activation::Sigmoid, {0, 1, -1, 200, -200, inf, -inf, NAN},
           {0.5f, 0.731058578f, 0.268941421f, 1, 0, 1, 0, NAN});
  activate(fb::Activation::Silu, {0, 1, -1, 200, -200, inf, NAN},
           {0, 0.731058578f, -0.268941421f, 200, 0, inf, NAN});
  activate(fb::Activation::Tanh, {0, 0.5f, -1, 50, -50, inf, -inf, NAN},
           {0, 0.462117157f, -0.761594156f, 1, -1, 1, -1, NAN});
  activate(fb::Activation::Gelu, {0, 1, -1, 10, -10, inf, NAN},
           {0, 0.841344746f, -0.158655254f, 10, 0, inf, NAN});
  activate(fb::Activation::GeluTanh, {0, 1, -1, 10, -10, inf, NAN},
           {0, 0.841191991f, -0.158808009f, 10, 0, inf, NAN});
  activate(fb::Activation::Relu, {0, 2, -2, inf, -inf, NAN}, {0, 2, 0, inf, 0, NAN});
  activate(fb::Activation::ReluSquared, {0, 2, -2, inf, -inf, NAN}, {0, 4, 0, inf, 0, NAN});
  activate(fb::Activation::Softplus, {0, 1, -1, 40, -100, inf, -inf, NAN},
           {0.693147181f, 1.31326169f, 0.313261688f, 40, 0, inf, 0, NAN});
  activate(fb::Activation::LogSigmoid, {0, 1, -1, -40, 100, -inf, inf, NAN},
           {-0.693147181f, -0.313261688f, -1.31326169f, -40, 0, -inf, 0, NAN});
  activate(fb::Activation::Exp, {0, 1, -1, -200, 200, inf, -inf, NAN},
           {1, 2.71828183f, 0.367879441f, 0, inf, inf, 0, NAN});
  activate(fb::Activation::Elu1, {0, 1, -1, -200, inf, NAN}, {1, 2, 0.367879441f, 0, inf, NAN});
}

TEST_CASE("pointwise: a table for every row, wider than the input") {
  check_op(16, [](OpBuilder& op, Random& random) {
    fb::PointwiseT args;
    args.kind = random.choice({fb::PointwiseKind::Add, fb::PointwiseKind::Multiply});
    op.args(args);
    op.exact_pieces();
    const int64_t d = random.pick(1, 80), times = random.pick(1, 6);
    op.input({kTokens, d});
    op.vector({times * d});
    op.output({kTokens, times * d});
  });
}
