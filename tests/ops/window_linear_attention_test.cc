#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/mixer_cases.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

struct WindowCase {
  int64_t heads = 1, kv_heads = 1, state_heads = 1, d = 4, V = 4, columns = 4, window = 4, sinks = 0;
  bool paired = false, rate = false, offset = false, log_bias = false, log_gain = false, factors = false;
  Fill input = uniform(-1, 1), biases = uniform(-1, 1);
  int64_t features() const { return columns * (paired ? 2 : 1); }
};

void window_op(OpBuilder& op, const WindowCase& c, fb::WindowLinearAttentionT args) {
  args.heads = static_cast<int>(c.heads);
  args.kv_heads = static_cast<int>(c.kv_heads);
  args.state_heads = static_cast<int>(c.state_heads);
  args.head_dim = static_cast<int>(c.d);
  args.value_dim = static_cast<int>(c.V);
  args.window = static_cast<int>(c.window);
  args.sinks = static_cast<int>(c.sinks);
  args.paired_features = c.paired;
  op.args(args);
  op.input({kTokens, c.heads * c.d}, c.input);
  op.input({kTokens, c.kv_heads * c.d}, c.input);
  op.input({kTokens, c.kv_heads * c.V}, c.input);
  const auto optional = [&](bool present, std::vector<int64_t> shape, const Fill& fill) {
    if (present)
      op.vector(std::move(shape), fill);
    else
      op.absent_weight();
  };
  op.vector({c.heads, c.d, c.columns}, uniform(-1, 1));
  op.vector({c.state_heads, c.d, c.columns}, uniform(-1, 1));
  optional(c.rate, {c.state_heads}, uniform(-1, 0));
  optional(c.offset, {c.state_heads * c.features()}, uniform(-1, 1));
  optional(c.log_bias, {c.heads}, c.biases);
  optional(c.log_gain, {c.heads * c.d}, uniform(-1, 1));
  optional(c.factors, {c.heads}, uniform(0.1f, 1));
  optional(c.factors, {c.heads}, uniform(0.1f, 1));
  op.state(fb::StateRole::History, {c.sinks + c.window, c.kv_heads * c.d});
  op.state(fb::StateRole::History, {c.sinks + c.window, c.kv_heads * c.V});
  op.state(fb::StateRole::Recurrent, {c.state_heads, c.features(), c.V});
  op.state(fb::StateRole::Recurrent, {c.state_heads, c.features()});
  op.output({kTokens, c.heads * c.V});
}

std::unique_ptr<fb::RotaryEmbeddingT> rope_of(int64_t d, int64_t turned, bool interleaved) {
  auto rope = std::make_unique<fb::RotaryEmbeddingT>();
  rope->head_dim = static_cast<int>(d);
  rope->interleaved = interleaved;
  for (int64_t i = 0; i < turned; i += 2)
    rope->inverse_frequencies.push_back(
        std::pow(100.0f, -static_cast<float>(i) / static_cast<float>(turned)));
  return rope;
}

void random_case(OpBuilder& op, Random& random, int64_t most_window) {
  using Kind = fb::DecayKind;
  WindowCase c;
  c.kv_heads = random.pick(1, 3);
  c.state_heads = c.kv_heads * random.choice({1, 2});
  c.heads = c.state_heads * random.choice({1, 2, 3});
  c.d = random.choice({2, 6, 16, 64});
  c.V = random.choice({1, 5, 16, 33, 64});
  c.window = random.chance(0.5) ? random.pick(1, 8) : random.pick(1, most_window);
  c.sinks = random.chance(0.5) ? 0 : random.pick(1, 70);
  c.paired = random.chance(0.5);
  fb::WindowLinearAttentionT args;
  args.scale = 1 / std::sqrt(static_cast<float>(c.d));
  args.rotated_features = random.chance(0.5);
  args.feature_floor = random.choice({0.0f, 1e-12f, 0.05f});
  args.epsilon = random.choice({0.0f, 1e-6f});
  if (random.chance(0.7)) args.rope = rope_of(c.d, random.chance(0.5) ? c.d : 2, random.chance(0.5));
  const Kind kind =
      random.choice({Kind::None, Kind::Constant, Kind::Log, Kind::LogSigmoid, Kind::Softplus, Kind::Sigmoid});
  const bool reads = kind != Kind::None && kind != Kind::Constant;
  c.columns = random.choice({1, 5, 16, 32, 64});
  if (reads) {  // as many features as k has channels
    c.paired = false;
    c.columns = c.d;
  }
  if (kind != Kind::None) {
    args.decay = decay_of(kind);
    args.decay->divisor = 16;
    args.decay->minimum = kind == Kind::LogSigmoid ? random.choice({0.0f, -0.04f}) : 0.0f;
    args.decay->slope = -0.6f;
  }
  c.rate = kind == Kind::Constant || kind == Kind::Softplus;
  c.offset = reads && kind != Kind::Log && random.chance(0.5);
  c.log_bias = random.chance(0.6);
  c.log_gain = c.log_bias && random.chance(0.6);
  c.factors = random.chance(0.5);
  if (op.tokens() <= c.window + c.sinks) op.states_may_be_zero();
  op.exact_pieces();
  op.tolerance(6e-6);  // reached: 6e-7
  window_op(op, c, std::move(args));
}

}  // namespace

TEST_CASE("window_linear_attention: like the reference for every decay, map and grouping of heads") {
  check_op(24, [](OpBuilder& op, Random& random) { random_case(op, random, 60); });
}

TEST_CASE("window_linear_attention: long sequences and windows, over the edges of blocks") {
  check_op(3,
           [](OpBuilder& op, Random& random) {
             op.set_tokens(random.pick(130, 170));
             random_case(op, random, 150);
           },
           {1, 100});
}

TEST_CASE("window_linear_attention: by hand") {
  // One head of one channel, window 1, one feature (always 1): token 2 sees itself exactly and tokens 0 and 1
  // through the state.
  for (const bool biased : {false, true}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::WindowLinearAttentionT args;
          args.heads = args.kv_heads = args.state_heads = args.head_dim = args.value_dim = args.window = 1;
          args.epsilon = 0.5f;
          b.args(args);
          b.input({kTokens, 1}, exactly({1, 1, 1}));
          b.input({kTokens, 1}, exactly({2, 3, 4}));
          b.input({kTokens, 1}, exactly({10, 20, 40}));
          b.vector({1, 1, 1}, exactly({1}));
          b.vector({1, 1, 1}, exactly({1}));
          b.absent_weight();
          b.absent_weight();
          if (biased) {
            b.vector({1}, exactly({5}));  // above every score: the maximum is w = 5 + 1
            b.vector({1}, exactly({1}));
          }
          b.state(fb::StateRole::History, {1, 1});
          b.state(fb::StateRole::History, {1, 1});
          b.state(fb::StateRole::Recurrent, {1, 1, 1});
          b.state(fb::StateRole::Recurrent, {1, 1});
          b.output({kTokens, 1});
        },
        1, 3);
    std::vector<float> expected;
    const double k[] = {2, 3, 4}, v[] = {10, 20, 40};
    double S = 0, z = 0;
    for (int t = 0; t < 3; ++t) {
      const double near = biased ? std::exp(k[t] - 6) : 1;
      expected.push_back(static_cast<float>((near * v[t] + S) / (near + z + 0.5)));
      S += v[t];
      z += 1;
    }
    check_op_equals(*op, {expected}, 1e-5);  // reached: 2e-6
  }
}

TEST_CASE("window_linear_attention: sinks stay exact and never enter the state") {
  WindowCase c;
  c.window = 3;
  c.sinks = 2;
  const auto op = make_op([&](OpBuilder& b, Random&) { window_op(b, c, {}); }, 5, 5);
  // Five tokens: two sinks and a window of three, so nothing has entered; one more and token 2 has.
  const auto longer = make_op([&](OpBuilder& b, Random&) { window_op(b, c, {}); }, 5, 6);
  for (const Backend* backend : all_backends()) {
    CAPTURE(backend->name());
    const OpRun before = run_op(*op, *backend), after = run_op(*longer, *backend);
    for (const float s : before.states[3]) CHECK(s == 0);
    double sum = 0;
    for (const float s : after.states[3]) sum += static_cast<double>(s);
    CHECK(std::fabs(sum - 1) < 1e-5);  // one softmax of features
  }
}

TEST_CASE("window_linear_attention: large scores, biases and decays stay finite; a NaN is not hidden") {
  WindowCase c;
  c.d = c.columns = 16;
  c.V = 8;
  c.window = 20;
  c.log_bias = c.log_gain = true;
  fb::WindowLinearAttentionT args;
  args.decay = decay_of(fb::DecayKind::Log);
  c.input = uniform(-1e4f, 1e4f);
  c.biases = uniform(-1e4f, 1e4f);
  const auto wild = make_op([&](OpBuilder& b, Random&) { window_op(b, c, args); }, 2, 100);
  c.input = [](Random& random, std::span<float> values) {
    for (float& v : values) v = random.uniform(-1, 1);
    values[values.size() - 3] = std::nanf("");  // of the last token
  };
  const auto bad = make_op([&](OpBuilder& b, Random&) { window_op(b, c, args); }, 2, 100);
  check_finite(*wild);
  for (const Backend* backend : all_backends()) {
    CAPTURE(backend->name());
    const OpRun nan = run_op(*bad, *backend);
    CHECK(std::isnan(nan.outputs[0].back()));
    CHECK_FALSE(std::isnan(nan.outputs[0][nan.outputs[0].size() - 9]));
  }
}

TEST_CASE("window_linear_attention: the rule says what is wrong") {
  const auto error = [](const std::function<void(WindowCase&, fb::WindowLinearAttentionT&)>& change) {
    WindowCase c;
    fb::WindowLinearAttentionT args;
    change(c, args);
    return creation_error(*make_op([&](OpBuilder& b, Random&) { window_op(b, c, args); }),
                          *all_backends()[0]);
  };
  CHECK(error([](WindowCase&, fb::WindowLinearAttentionT&) {}) == "");
  CHECK(error([](WindowCase& c, fb::WindowLinearAttentionT&) {
          c.heads = 3, c.state_heads = 2;
        }).find("divide") != std::string::npos);
  CHECK(error([](WindowCase& c, fb::WindowLinearAttentionT&) { c.log_gain = true; }).find("log_bias") !=
        std::string::npos);
  CHECK(error([](WindowCase& c, fb::WindowLinearAttentionT& args) {
          c.columns = 3;
          args.decay = decay_of(fb::DecayKind::Log);
        }).find("as many features") != std::string::npos);
  CHECK(error([](WindowCase&, fb::WindowLinearAttentionT& args) {
          args.rope = rope_of(8, 4, false);
        }).find("rope") != std::string::npos);
}
