#include <doctest/doctest.h>

#include <cmath>

#include "tests/compare.h"
#include "tests/ops/golden_file.h"
#include "tests/ops/op_check.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

std::unique_ptr<fb::RotaryEmbeddingT> rope(int64_t head_dim, bool interleaved) {
  auto args = std::make_unique<fb::RotaryEmbeddingT>();
  args->head_dim = static_cast<int32_t>(head_dim);
  args->interleaved = interleaved;
  for (int64_t i = 0; i < head_dim / 2; ++i)
    args->inverse_frequencies.push_back(
        static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim))));
  return args;
}

fb::SoftmaxAttentionT sizes(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim) {
  fb::SoftmaxAttentionT args;
  args.heads = static_cast<int32_t>(heads);
  args.kv_heads = static_cast<int32_t>(kv_heads);
  args.head_dim = static_cast<int32_t>(head_dim);
  args.value_dim = static_cast<int32_t>(value_dim);
  args.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
  return args;
}

void add_operands(OpBuilder& op, const fb::SoftmaxAttentionT& args, bool gate, const Fill& fill = normal()) {
  const int64_t q = args.heads * args.head_dim, o = args.heads * args.value_dim;
  const int64_t k = args.kv_heads * args.head_dim, v = args.kv_heads * args.value_dim;
  op.args(args);
  op.tolerance(4e-6);  // reached: 6e-7
  op.input({kTokens, q}, fill);
  op.input({kTokens, k}, fill);
  op.input({kTokens, v}, fill);
  if (gate) op.input({kTokens, o}, normal());
  if (args.mask == fb::AttentionMask::Causal) {
    op.state(fb::StateRole::KeyCache, {kContext, k});
    op.state(fb::StateRole::ValueCache, {kContext, v});
  }
  op.output({kTokens, o});
}

fb::SoftmaxAttentionT any_sizes(Random& random) {
  const int64_t kv_heads = random.pick(1, 3), group = random.choice({1, 2, 3, 4, 7});
  const int64_t head_dim = random.choice({4, 16, 20, 32, 64, 80, 128});
  fb::SoftmaxAttentionT args =
      sizes(kv_heads * group, kv_heads, head_dim, random.chance(0.7) ? head_dim : random.choice({8, 12, 64}));
  args.softcap = random.chance(0.25) ? 20.0f : 0.0f;
  args.gate_activation = random.choice({fb::Activation::Sigmoid, fb::Activation::Silu});
  return args;
}

}  // namespace

TEST_CASE("softmax_attention: full, like the reference; pieces and single tokens bit for bit as one call") {
  check_op(24,
           [](OpBuilder& op, Random& random) {
             add_operands(op, any_sizes(random), random.chance(0.3));
             op.exact_pieces();
           },
           {.most_tokens = 200});
}

TEST_CASE("softmax_attention: the layer's own window") {
  check_op(16,
           [](OpBuilder& op, Random& random) {
             fb::SoftmaxAttentionT args = any_sizes(random);
             args.window = static_cast<int32_t>(random.pick(1, 150));
             add_operands(op, args, false);
             op.exact_pieces();
           },
           {.most_tokens = 200});
}

TEST_CASE("softmax_attention: the session's window and sinks, with positions moved inside the cache") {
  check_op(24,
           [](OpBuilder& op, Random& random) {
             fb::SoftmaxAttentionT args = any_sizes(random);
             if (random.chance(0.8)) args.rope = rope(args.head_dim, random.chance(0.5));
             op.options().attention = {false, random.pick(1, 120), random.pick(0, 5)};
             if (random.chance(0.15)) op.options().attention.sinks = 70;  // more than a block
             add_operands(op, args, false);
             op.exact_pieces();
           },
           {.most_tokens = 260});
}

TEST_CASE("softmax_attention: keys and values kept in f16 and q8") {
  for (const DType dtype : {DType::kF16, DType::kQ8}) {
    CAPTURE(std::string(dtype_name(dtype)));
    check_op(12,
             [&](OpBuilder& op, Random& random) {
               fb::SoftmaxAttentionT args = any_sizes(random);
               // q8 keeps groups of 32 channels of a token's whole row, whatever the heads' size.
               if (dtype == DType::kQ8) {
                 const int64_t kv_heads = random.choice({2, 4}), head_dim = random.choice({16, 32, 64, 80});
                 args = sizes(kv_heads * 2, kv_heads, head_dim, head_dim);
               }
               op.options().cache_dtype = dtype;
               if (random.chance(0.5)) op.options().attention = {false, random.pick(1, 100), 4};
               add_operands(op, args, false);
               op.exact_pieces();
               op.tolerance(5e-6);  // reached: 5e-7
             },
             {.most_tokens = 150});
  }
}

// The harness compares two backends that keep the same numbers; this is how far those are from what they
// stand for.
TEST_CASE("softmax_attention: keys and values in f16 and q8 are off by half a step at most") {
  constexpr int64_t kRows = 200, kChannels = 32;
  for (const DType dtype : {DType::kF16, DType::kQ8}) {
    CAPTURE(std::string(dtype_name(dtype)));
    // Of a number in a group (one token's channels) with this largest magnitude; the scale is in f16 too.
    const auto step = [&](double most) {
      return most * (dtype == DType::kQ8 ? 1 / 254.0 + 0x1p-11 : 0x1p-11);
    };
    const auto rows = [&](bool of_keys, std::vector<float>& values) {
      return make_op(
          [&](OpBuilder& b, Random& random) {
            fb::SoftmaxAttentionT args = sizes(1, 1, kChannels, kChannels);
            args.scale = 1;
            args.window = of_keys ? 2 : 1;
            b.options().cache_dtype = dtype;
            b.args(args);
            std::vector<float> q(static_cast<size_t>(kRows * kChannels)), k(q.size()), v(q.size());
            for (size_t i = 0; i < q.size(); ++i) {
              const size_t t = i / kChannels;
              k[i] = random.uniform(-1, 1);
              q[i] = of_keys && i % kChannels == t % kChannels ? 8.0f
                                                               : 0.0f;  // it reads one channel of the keys
              v[i] = of_keys ? static_cast<float>(t % 2) : random.uniform(-3, 3);
            }
            values = of_keys ? k : v;
            b.input({kTokens, kChannels}, exactly(q));
            b.input({kTokens, kChannels}, exactly(k));
            b.input({kTokens, kChannels}, exactly(v));
            b.state(fb::StateRole::KeyCache, {kContext, kChannels});
            b.state(fb::StateRole::ValueCache, {kContext, kChannels});
            b.output({kTokens, kChannels});
          },
          7, kRows);
    };
    std::vector<float> v, k;
    const auto alone = rows(false, v), pairs = rows(true, k);
    const auto most_of = [](const std::vector<float>& x, size_t token) {
      return largest_magnitude(std::span(x).subspan(token * kChannels, kChannels));
    };
    for (const Backend* backend : all_backends()) {
      const std::string name = std::string(backend->name()) + ", " + std::string(dtype_name(dtype));
      // A token that sees itself alone gives its own value.
      const std::vector<float> values = run_op(*alone, *backend).outputs[0];
      REQUIRE(values.size() == v.size());
      REQUIRE(std::isfinite(largest_magnitude(values)));
      double worst = 0;
      for (size_t i = 0; i < v.size(); ++i)
        worst = std::max(worst,
                         std::fabs(static_cast<double>(values[i]) - v[i]) / step(most_of(v, i / kChannels)));
      check_below(name + ", values", worst, 1);
      CHECK(worst > 0.2);  // they are kept so
      // Two tokens' keys, of which the odd one's value is 1: the share is a sigmoid of their difference.
      const std::vector<float> shares = run_op(*pairs, *backend).outputs[0];
      REQUIRE(shares.size() == k.size());
      REQUIRE(std::isfinite(largest_magnitude(shares)));
      worst = 0;
      for (size_t t = 1; t < kRows; ++t) {
        const size_t odd = t % 2 ? t : t - 1, even = t % 2 ? t - 1 : t, channel = t % kChannels;
        const double difference =
            static_cast<double>(k[odd * kChannels + channel]) - k[even * kChannels + channel];
        const double share = 1 / (1 + std::exp(-8 * difference));
        // The sigmoid's slope is at most 1/4; a value of 1 is off by its scale.
        const double allowed = 8 * (step(most_of(k, odd)) + step(most_of(k, even))) / 4 + 0x1p-11;
        worst = std::max(worst,
                         std::fabs(static_cast<double>(shares[t * kChannels + channel]) - share) / allowed);
      }
      check_below(name + ", keys", worst, 1);
      CHECK(worst > 0.2);
    }
  }
}

TEST_CASE("softmax_attention: bidirectional") {
  check_op(12,
           [](OpBuilder& op, Random& random) {
             fb::SoftmaxAttentionT args = any_sizes(random);
             args.mask = fb::AttentionMask::Bidirectional;
             const int64_t length = random.pick(1, 150);
             op.args(args);
             op.tolerance(1e-5);  // reached: 1e-6
             op.symbol("queries", random.pick(1, 90));
             op.symbol("length", length);
             op.input({Extent("queries"), args.heads * args.head_dim}, normal());
             op.input({Extent("length"), args.kv_heads * args.head_dim}, normal());
             op.input({Extent("length"), args.kv_heads * args.value_dim}, normal());
             op.output({Extent("queries"), args.heads * args.value_dim});
           },
           {.most_tokens = 1});
}

TEST_CASE("softmax_attention: large scores do not overflow") {
  check_op(6, [](OpBuilder& op, Random&) {
    fb::SoftmaxAttentionT args = sizes(2, 1, 16, 16);
    args.scale = 1;
    add_operands(op, args, false, normal(30));
    op.tolerance(1e-4);  // scores of several thousand carry their rounding into the exponent; reached: 6e-6
  });
}

TEST_CASE("softmax_attention: by hand") {
  // Two tokens; scores of the second are ln 3 and 0: weights 3/4 and 1/4.
  const auto op = [](fb::SoftmaxAttentionT args) {
    return make_op(
        [&](OpBuilder& b, Random&) {
          const float ln3 = 1.09861229f;
          b.args(args);
          b.input({kTokens, 1}, exactly({1, 2}));
          b.input({kTokens, 1}, exactly({ln3, 0}));
          b.input({kTokens, 2}, exactly({4, 8, 12, -8}));
          if (args.mask == fb::AttentionMask::Causal) {
            b.state(fb::StateRole::KeyCache, {kContext, 1});
            b.state(fb::StateRole::ValueCache, {kContext, 2});
          }
          b.output({kTokens, 2});
        },
        1, 2);
  };
  fb::SoftmaxAttentionT args = sizes(1, 1, 1, 2);
  args.scale = 0.5f;
  check_op_equals(*op(args), {{4, 8, 6, 4}}, 2e-6);
  args.window = 1;  // each token sees itself alone
  check_op_equals(*op(args), {{4, 8, 12, -8}}, 0);
  args.window = 0;
  args.mask = fb::AttentionMask::Bidirectional;  // the first token: 3^(1/2) to 1
  check_op_equals(*op(args), {{6.92820323f, 2.14359354f, 6, 4}}, 2e-6);
}

TEST_CASE("softmax_attention: a NaN reaches the tokens that see it and no other") {
  const auto op = make_op(
      [](OpBuilder& b, Random&) {
        fb::SoftmaxAttentionT args = sizes(1, 1, 4, 4);
        args.window = 3;
        std::vector<float> k(10 * 4, 0.25f), v(10 * 4, 0.5f);
        k[4 * 4] = NAN;
        v[4 * 4 + 1] = INFINITY;
        b.args(args);
        b.input({kTokens, 4}, exactly(std::vector<float>(40, 1)));
        b.input({kTokens, 4}, exactly(k));
        b.input({kTokens, 4}, exactly(v));
        b.state(fb::StateRole::KeyCache, {kContext, 4});
        b.state(fb::StateRole::ValueCache, {kContext, 4});
        b.output({kTokens, 4});
      },
      1, 10);
  for (const Backend* backend : all_backends()) {
    CAPTURE(std::string(backend->name()));
    for (const auto& pieces : {std::vector<int64_t>{10}, std::vector<int64_t>(10, 1)}) {
      const auto y = run_op(*op, *backend, 1, pieces).outputs[0];
      for (size_t t = 0; t < 10; ++t) CHECK(std::isnan(y[4 * t]) == (t >= 4 && t < 7));
    }
  }
}

TEST_CASE("softmax_attention: T5's relative bias, like the reference and the official code") {
  check_op(10, [](OpBuilder& op, Random& random) {
    fb::SoftmaxAttentionT args;
    args.kv_heads = static_cast<int>(random.pick(1, 3));
    args.heads = args.kv_heads * static_cast<int>(random.pick(1, 2));
    args.head_dim = args.value_dim = 12;
    args.scale = 1;
    args.mask = fb::AttentionMask::Bidirectional;
    args.relative_buckets = random.chance(0.5) ? 8 : 32;
    args.relative_max_distance = random.chance(0.5) ? 20 : 128;
    op.args(args);
    op.tolerance(8e-6, 8e-7);  // reached: 8e-7
    const int64_t queries = random.pick(1, 200);
    op.symbol("text_tokens", queries, 210);
    const Extent rows("text_tokens");
    op.input({rows, args.heads * 12});
    op.input({rows, args.kv_heads * 12});
    op.input({rows, args.kv_heads * 12});
    op.vector({args.relative_buckets, args.heads}, normal());
    op.output({rows, args.heads * 12});
  });
  const GoldenFile golden("t5_attention");
  const auto op = make_op([&](OpBuilder& b, Random&) {
    fb::SoftmaxAttentionT args;
    args.heads = args.kv_heads = 4;
    args.head_dim = args.value_dim = 3;
    args.scale = 1;
    args.mask = fb::AttentionMask::Bidirectional;
    args.relative_buckets = 32;
    args.relative_max_distance = 128;
    b.args(args);
    for (const char* name : {"q", "k", "v"}) b.input({150, 12}, exactly(golden[name]));
    b.vector({32, 4}, exactly(golden["table"]));
    b.output({150, 12});
  });
  check_op_equals(*op, {golden["y"]}, 8e-6);  // reached: 8e-7
}

TEST_CASE("softmax_attention: an image sees a text") {
  check_op(6, [](OpBuilder& op, Random& random) {
    fb::SoftmaxAttentionT args;
    args.heads = args.kv_heads = 3;
    args.head_dim = args.value_dim = random.chance(0.5) ? 20 : 72;
    args.scale = 0.2f;
    args.mask = fb::AttentionMask::Bidirectional;
    op.args(args);
    op.tolerance(4e-6, 4e-7);  // reached: 4e-7
    const int64_t width = 3 * args.head_dim;
    op.symbol("height", random.pick(1, 9), 10);
    op.symbol("text_tokens", random.pick(1, 150), 300);
    op.input({Extent("height"), 7, width});
    op.input({Extent("text_tokens"), width});
    op.input({Extent("text_tokens"), width});
    op.output({Extent("height"), 7, width});
  });
}

TEST_CASE("softmax_attention: keys that a mask hides") {
  check_op(10, [](OpBuilder& op, Random& random) {
    fb::SoftmaxAttentionT args;
    args.kv_heads = static_cast<int>(random.pick(1, 3));
    args.heads = args.kv_heads * static_cast<int>(random.pick(1, 2));
    args.head_dim = args.value_dim = 12;
    args.scale = 0.3f;
    args.mask = fb::AttentionMask::Bidirectional;
    op.args(args);
    op.tolerance(4e-6, 4e-7);  // reached: 4e-7
    const int64_t queries = random.pick(1, 60);
    op.symbol("text_tokens", random.pick(1, 200), 210);
    const Extent rows("text_tokens");
    op.input({queries, args.heads * 12});
    op.input({rows, args.kv_heads * 12});
    op.input({rows, args.kv_heads * 12});
    op.absent_input();
    // Whole blocks of keys hidden, single ones, and now and then all.
    const bool all = random.chance(0.1);
    const int64_t hidden = random.pick(0, 150);
    op.input({rows}, [=](Random& r, std::span<float> mask) {
      for (size_t i = 0; i < mask.size(); ++i)
        mask[i] = all || static_cast<int64_t>(i) < hidden || r.chance(0.3) ? 0.0f : 1.0f;
    });
    op.output({queries, args.heads * 12});
  });
}
