#include <doctest/doctest.h>

#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {
fb::LinearAttentionT arguments(int64_t heads, int64_t head_dim, int64_t value_dim) {
  fb::LinearAttentionT args;
  args.heads = static_cast<int>(heads);
  args.head_dim = static_cast<int>(head_dim);
  args.value_dim = static_cast<int>(value_dim);
  args.activation = fb::Activation::Relu;
  args.epsilon = 1e-6f;
  return args;
}
}  // namespace

TEST_CASE("linear_attention: like the reference, few heads and many, images and rows, under the bound") {
  check_op(24, [](OpBuilder& op, Random& random) {
    const int64_t heads = random.pick(1, 6), K = random.choice({1, 8, 20, 32, 72}),
                  V = random.choice({1, 16, 32, 50});
    auto args = arguments(heads, K, V);
    args.activation = random.choice({fb::Activation::Relu, fb::Activation::Elu1, fb::Activation::Exp});
    op.args(args);
    op.tolerance(5e-6, 5e-7);  // reached: 5e-7
    const Extent height("height"), width("width");
    op.symbol("height", random.pick(1, 9), 12);
    op.symbol("width", random.pick(1, 40), 60);
    op.input({height, width, heads * K});
    if (random.chance(0.3)) {  // keys of their own
      const int64_t keys = random.pick(1, 600);
      op.input({keys, heads * K}, uniform(0, 1));
      op.input({keys, heads * V});
    } else {
      op.input({height, width, heads * K}, uniform(-0.5f, 1));
      op.input({height, width, heads * V});
    }
    op.output({height, width, heads * V});
  });
}

TEST_CASE("linear_attention: interleaved heads in one input or several") {
  check_op(12, [](OpBuilder& op, Random& random) {
    const int64_t K = random.choice({8, 16, 32}), V = random.choice({8, 32}), rows = random.pick(1, 70);
    const int64_t first = random.pick(1, 4), second = random.pick(0, 3);
    auto args = arguments(first + second, K, V);
    args.interleaved = true;
    op.args(args);
    op.tolerance(4e-6, 4e-7);  // reached: 4e-7
    op.input({rows, 3, first * (2 * K + V)}, uniform(-0.5f, 1));
    if (second > 0) op.input({rows, 3, second * (2 * K + V)}, uniform(-0.5f, 1));
    op.output({rows, 3, (first + second) * V});
  });
}

TEST_CASE("linear_attention: keys enough for several chunks, on any number of threads") {
  check_op(1, [](OpBuilder& op, Random&) {
    op.args(arguments(2, 24, 40));
    op.tolerance(1.2e-6);  // reached: 1.2e-7
    op.input({71, 90, 48});
    op.input({71, 90, 48});
    op.input({71, 90, 80});
    op.output({71, 90, 80});
  });
}

TEST_CASE("linear_attention: by hand") {
  // Features of k: (1, 0) and (2, 3); S = k v^T summed; the query (1, 2) weighs the keys 1 and 8.
  const auto op = make_op([](OpBuilder& b, Random&) {
    auto args = arguments(1, 2, 1);
    args.epsilon = 1;
    b.args(args);
    b.input({1, 2}, exactly({1, 2}));
    b.input({2, 2}, exactly({1, -5, 2, 3}));
    b.input({2, 1}, exactly({10, 100}));
    b.output({1, 1});
  });
  check_op_equals(*op, {{81}}, 1e-5);  // an ulp is 8e-6; reached: 0
}

TEST_CASE("linear_attention: no key with features gives zero, not a division by zero") {
  const auto op = make_op([](OpBuilder& b, Random&) {
    auto args = arguments(1, 2, 1);
    args.epsilon = 1e-15f;
    b.args(args);
    b.input({1, 2}, exactly({-1, 2}));
    b.input({1, 2}, exactly({3, -3}));
    b.input({1, 1}, exactly({10}));
    b.output({1, 1});
  });
  check_op_equals(*op, {{0}}, 0, Truth::kAsGiven);
}

TEST_CASE("linear_attention: golden, DC-AE's interleaved heads") {
  const GoldenFile golden("dcae_linear_attention");  // 2 x (3 heads of [8 | 8 | 8]), 5 x 7 pixels
  const auto op = make_op([&](OpBuilder& b, Random&) {
    auto args = arguments(6, 8, 8);
    args.interleaved = true;
    args.epsilon = 1e-15f;
    b.args(args);
    b.input({5, 7, 72}, exactly(golden["first"]));
    b.input({5, 7, 72}, exactly(golden["second"]));
    b.output({5, 7, 48});
  });
  check_op_equals(*op, {golden["y"]}, 2e-6);  // reached: 1.8e-7
}

TEST_CASE("linear_attention: shapes that do not fit are refused") {
  const auto error = [](int64_t width) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      b.args(arguments(2, 4, 4));
      b.input({3, 8});
      b.input({3, width});
      b.input({3, 8});
      b.output({3, 8});
    });
    return creation_error(*op, *all_backends().front());
  };
  CHECK(error(8).empty());
  CHECK(error(7).find("k must be [rows, heads * head_dim]") != std::string::npos);
}
