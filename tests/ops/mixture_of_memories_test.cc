#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/mixer_cases.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

struct MemoriesCase {
  int64_t memories, top_k, heads, K, V, kernel;
  bool shared, single;  // single: one k, v, beta and decay for all memories
};

// All operands but the decay's weights, which come between inputs and taps.
void memories_op(OpBuilder& op, const MemoriesCase& c, const DecayCase& decay, fb::MixtureOfMemoriesT args,
                 const Fill& router) {
  args.memories = static_cast<int>(c.memories);
  args.top_k = static_cast<int>(c.top_k);
  args.shared = c.shared;
  args.heads = static_cast<int>(c.heads);
  args.key_dim = static_cast<int>(c.K);
  args.value_dim = static_cast<int>(c.V);
  args.kernel = static_cast<int>(c.kernel);
  args.decay = args_of(decay);
  const int64_t all = c.memories + (c.shared ? 1 : 0), n = c.single ? 1 : all, heads = c.heads;
  op.args(args);
  op.input({kTokens, heads * c.K});
  op.input({kTokens, n * heads * c.K});
  op.input({kTokens, n * heads * c.V});
  op.input({kTokens, n * heads}, uniform(-3, 3));
  op.input({kTokens, n * heads}, decay.input);
  op.input({kTokens, c.memories}, router);
  decay_weights(op, decay, heads);
  if (c.kernel > 0) {
    op.vector({c.kernel, heads * c.K});
    op.vector({c.kernel, heads * c.K});
    op.vector({c.kernel, heads * c.V});
  }
  op.state(fb::StateRole::Recurrent, {all * heads, c.K, c.V});
  if (c.kernel > 0) {
    op.state(fb::StateRole::History, {all, c.kernel - 1, heads * c.K});
    op.state(fb::StateRole::History, {all, c.kernel - 1, heads * c.K});
    op.state(fb::StateRole::History, {all, c.kernel - 1, heads * c.V});
  }
  op.output({kTokens, heads * c.V});
}

fb::MixtureOfMemoriesT gated_delta_net() {  // as MoM is trained
  fb::MixtureOfMemoriesT args;
  args.beta_activation = fb::Activation::Sigmoid;
  args.kernel_activation = fb::Activation::Silu;
  fb::HeadMapT l2;
  l2.norm = fb::HeadNorm::L2;
  l2.epsilon = 1e-6f;
  args.query_map = std::make_unique<fb::HeadMapT>(l2);
  args.key_map = std::make_unique<fb::HeadMapT>(l2);
  return args;
}

}  // namespace

TEST_CASE("mixture_of_memories: like the reference") {
  check_op(40, [](OpBuilder& op, Random& random) {
    MemoriesCase c{};
    c.memories = random.pick(1, 5);
    c.top_k = random.pick(1, c.memories);
    c.heads = random.pick(1, 3);
    c.K = random.choice({1, 4, 12, 24, 64});
    c.V = random.choice({1, 5, 16, 33, 64, 100});
    c.kernel = random.choice({0, 2, 4});
    c.shared = random.chance(0.6);
    c.single = random.chance(0.4);
    DecayCase decay = random_decay(random, c.heads, 1, false);
    while (!decay.reads) decay = random_decay(random, c.heads, 1, false);
    fb::MixtureOfMemoriesT args;
    args.scale = 1 / std::sqrt(static_cast<float>(c.K));
    args.query_map = random_map(random, false);
    args.key_map = random_map(random, true);
    args.value_activation = random.choice({fb::Activation::None, fb::Activation::Silu});
    args.beta_activation = fb::Activation::Sigmoid;
    args.beta_scale = random.choice({1.0f, 2.0f});
    args.kernel_activation = random.choice({fb::Activation::None, fb::Activation::Silu});
    op.exact_pieces();
    op.tolerance(6e-6);  // reached: 6e-7
    memories_op(op, c, decay, std::move(args), uniform(-2, 2));
  });
}

TEST_CASE("mixture_of_memories: a memory that no token reaches keeps state and history") {
  const auto op = make_op(
      [](OpBuilder& b, Random& random) {
        DecayCase decay = random_decay(random, 2, 1, false);
        while (decay.args.kind != fb::DecayKind::LogSigmoid) decay = random_decay(random, 2, 1, false);
        std::vector<float> router;
        for (int t = 0; t < 9; ++t) router.insert(router.end(), {1.0f, 0.0f, -1.0f});
        memories_op(b, {3, 2, 2, 4, 8, 4, false, false}, decay, gated_delta_net(), exactly(router));
        b.initial_state(0, uniform(-1, 1));
        for (size_t i = 1; i < 4; ++i) b.initial_state(i, uniform(-1, 1));
      },
      3, 9);
  const auto before = make_op(
      [](OpBuilder& b, Random& random) {  // the same draws, no token routed anywhere yet: memory 2 of both
        DecayCase decay = random_decay(random, 2, 1, false);
        while (decay.args.kind != fb::DecayKind::LogSigmoid) decay = random_decay(random, 2, 1, false);
        std::vector<float> router;
        for (int t = 0; t < 9; ++t) router.insert(router.end(), {0.0f, 1.0f, -1.0f});
        memories_op(b, {3, 1, 2, 4, 8, 4, false, false}, decay, gated_delta_net(), exactly(router));
        b.initial_state(0, uniform(-1, 1));
        for (size_t i = 1; i < 4; ++i) b.initial_state(i, uniform(-1, 1));
      },
      3, 9);
  for (const Backend* backend : all_backends()) {
    CAPTURE(backend->name());
    const OpRun a = run_op(*op, *backend), b = run_op(*before, *backend);
    REQUIRE(a.states.size() == 4);
    for (size_t s = 0; s < 4; ++s) {
      const size_t own = a.states[s].size() / 3;
      // Untouched in both; memory 0 is used by the first alone.
      CHECK(std::equal(a.states[s].begin() + static_cast<long>(2 * own), a.states[s].end(),
                       b.states[s].begin() + static_cast<long>(2 * own)));
      CHECK_FALSE(
          std::equal(a.states[s].begin(), a.states[s].begin() + static_cast<long>(own), b.states[s].begin()));
    }
  }
}

TEST_CASE("mixture_of_memories: shares of the chosen sum to one and the shared memory has share one") {
  // One token, empty states, no convolution: each memory gives scale * beta (q.k) v.
  const auto build = [](bool shared) {
    return [shared](OpBuilder& b, Random&) {
      fb::MixtureOfMemoriesT args;
      args.memories = 3;
      args.top_k = 2;
      args.shared = shared;
      args.heads = args.key_dim = args.value_dim = 1;
      args.decay = decay_of(fb::DecayKind::Log);
      b.args(args);
      const int n = shared ? 4 : 3;
      b.input({kTokens, 1}, exactly({2}));
      b.input({kTokens, n}, exactly(shared ? std::vector<float>{1, 1, 1, 3} : std::vector<float>{1, 1, 1}));
      b.input({kTokens, n},
              exactly(shared ? std::vector<float>{5, 7, 11, 13} : std::vector<float>{5, 7, 11}));
      b.input({kTokens, n}, exactly(std::vector<float>(static_cast<size_t>(n), 0.5f)));
      b.input({kTokens, n}, exactly(std::vector<float>(static_cast<size_t>(n), -1.0f)));
      b.input({kTokens, 3}, exactly({0.0f, 1.0f, -2.0f}));
      b.state(fb::StateRole::Recurrent, {n, 1, 1});
      b.output({kTokens, 1});
    };
  };
  const double e = std::exp(1.0), routed = (5 + e * 7) / (1 + e);
  check_op_equals(*make_op(build(false)), {{static_cast<float>(routed)}}, 1e-5);
  check_op_equals(*make_op(build(true)), {{static_cast<float>(routed + 3 * 13)}}, 1e-5);
}

TEST_CASE("mixture_of_memories: a NaN of the router is not hidden, wild betas stay finite") {
  const auto with = [](const Fill& router, const Fill& beta) {
    return make_op(
        [&](OpBuilder& b, Random&) {
          fb::MixtureOfMemoriesT args;
          args.memories = 2;
          args.top_k = 1;
          args.heads = 1;
          args.key_dim = args.value_dim = 16;
          args.decay = decay_of(fb::DecayKind::Log);
          b.args(args);
          b.input({kTokens, 16});
          b.input({kTokens, 16}, uniform(-3, 3));
          b.input({kTokens, 16});
          b.input({kTokens, 1}, beta);
          b.input({kTokens, 1}, uniform(-1e4f, 1e4f));
          b.input({kTokens, 2}, router);
          b.state(fb::StateRole::Recurrent, {2, 16, 16});
          b.output({kTokens, 16});
        },
        1, 200);
  };
  std::vector<float> bad(400, 0.5f);
  bad[399] = std::nanf("");
  const auto nan = with(exactly(bad), uniform(0, 1)), wild = with(uniform(-1, 1), uniform(5, 20));
  for (const Backend* backend : all_backends()) {
    CAPTURE(backend->name());
    const OpRun run = run_op(*nan, *backend);
    CHECK(std::isnan(run.outputs[0].back()));
    CHECK_FALSE(std::isnan(run.outputs[0][run.outputs[0].size() - 17]));
  }
  check_finite(*wild);
}

TEST_CASE("mixture_of_memories: the rule says what is wrong") {
  const auto error = [](int memories, int top_k, fb::DecayKind kind, int router) {
    const auto op = make_op([&](OpBuilder& b, Random&) {
      fb::MixtureOfMemoriesT args;
      args.memories = memories;
      args.top_k = top_k;
      args.heads = 1;
      args.key_dim = args.value_dim = 4;
      args.decay = decay_of(kind);
      b.args(args);
      for (int i = 0; i < 3; ++i) b.input({kTokens, 4});
      b.input({kTokens, 1});
      b.input({kTokens, 1});
      b.input({kTokens, router});
      b.state(fb::StateRole::Recurrent, {memories, 4, 4});
      b.output({kTokens, 4});
    });
    return creation_error(*op, *all_backends()[0]);
  };
  CHECK(error(2, 1, fb::DecayKind::Log, 2) == "");
  CHECK(error(2, 3, fb::DecayKind::Log, 2).find("top_k") != std::string::npos);
  CHECK(error(2, 1, fb::DecayKind::None, 2).find("decay") != std::string::npos);
  CHECK(error(2, 1, fb::DecayKind::Log, 3).find("expected") != std::string::npos);
}
