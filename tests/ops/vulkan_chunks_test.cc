// The chunk forms of the recurrences on Vulkan (backends/vulkan/shaders/chunk.glsl) and their token forms:
// both like the reference. The tests of the ops themselves have more cases, of whichever form their tokens
// give.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "backends/reference/reference.h"
#include "tests/ops/mixer_cases.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;

#if LINNET_HAS_VULKAN
namespace {

// Kept for as long as the process lives, as vulkan_test_backend().
const VulkanBackend* without_chunks() {
  static const VulkanBackend* const backend = []() -> const VulkanBackend* {
    VulkanOptions options;
    options.without = {"chunks"};
    auto made = open_test_vulkan(options);
    REQUIRE(made);
    return made->release();
  }();
  return backend;
}

// The largest distance of an element, over the largest magnitude.
float apart(const std::vector<float>& found, const std::vector<float>& truth) {
  REQUIRE(found.size() == truth.size());
  float most = 0, far = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    most = std::max(most, std::fabs(truth[i]));
    const float d = std::fabs(found[i] - truth[i]);
    far = std::isnan(d) ? INFINITY : std::max(far, d);
  }
  return far / most;
}

void check_both(const OpCase& op, float tolerance) {
  const OpRun truth = run_op(op, reference_backend());
  for (const bool chunks : {false, true}) {
    CAPTURE(chunks);
    const OpRun found = run_op(op, chunks ? *vulkan_test_backend() : *without_chunks());
    for (size_t i = 0; i < truth.outputs.size(); ++i)
      CHECK(apart(found.outputs[i], truth.outputs[i]) <= tolerance);
    CHECK(apart(found.states[0], truth.states[0]) <= tolerance);
  }
}

// f(tokens, kind, per_channel) for two whole chunks and for several with a rest, each kind by head and by
// channel.
template <class F>
void for_decays(std::initializer_list<fb::DecayKind> kinds, const F& f) {
  for (const int64_t tokens : {16, 29})
    for (const fb::DecayKind kind : kinds)
      for (const bool per_channel : {false, true}) {
        if (kind == fb::DecayKind::None && per_channel) continue;
        CAPTURE(tokens);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(per_channel);
        f(tokens, kind, per_channel);
      }
}

}  // namespace

TEST_CASE("gated linear attention by tokens and in chunks: decays, maps and heads that share") {
  if (!vulkan_test_backend()) return;
  using Kind = fb::DecayKind;
  for_decays({Kind::None, Kind::Log, Kind::Softplus, Kind::LowerBounded},
             [](int64_t tokens, Kind kind, bool per_channel) {
               const auto op = make_op(
                   [&](OpBuilder& b, Random&) {
                     const int64_t heads = 2, k = per_channel ? 24 : 64, v = per_channel ? 33 : 16;
                     const bool no_keys = per_channel && kind == Kind::LowerBounded;
                     fb::GatedLinearAttentionT args;
                     args.query_heads = 4;
                     args.key_heads = no_keys ? 2 : 1;
                     args.value_heads = 2;
                     args.key_dim = static_cast<int>(k);
                     args.value_dim = static_cast<int>(v);
                     args.scale = 0.2f;
                     args.decay = decay_of(kind);
                     args.step_scales_write = kind == Kind::Softplus && !per_channel;
                     args.query_map = std::make_unique<fb::HeadMapT>();
                     args.query_map->norm = per_channel ? fb::HeadNorm::Softmax : fb::HeadNorm::L2;
                     args.key_map = std::make_unique<fb::HeadMapT>();
                     args.key_map->norm = kind == Kind::Log ? fb::HeadNorm::L2 : fb::HeadNorm::None;
                     const int64_t width = per_channel ? heads * k : heads;
                     b.args(args);
                     b.input({kTokens, 4 * k});
                     if (no_keys)
                       b.absent_input();
                     else
                       b.input({kTokens, args.key_heads * k});
                     b.input({kTokens, heads * v});
                     if (kind == Kind::None)
                       b.absent_input();
                     else
                       b.input({kTokens, width}, uniform(-3, 0.2f));
                     if (kind == Kind::Softplus)
                       b.vector({heads}, uniform(-1, 0));
                     else
                       b.absent_weight();
                     if (kind == Kind::LowerBounded)
                       b.vector({width}, uniform(0, 1));
                     else
                       b.absent_weight();
                     b.vector({4});
                     b.state(fb::StateRole::Recurrent, {heads, k, v});
                     b.initial_state(0, normal());
                     b.output({kTokens, 4 * v});
                   },
                   static_cast<uint64_t>(tokens), tokens);
               check_both(*op, 2e-5f);
             });
}

TEST_CASE("gated delta rule by tokens and in chunks: decays, maps and heads that share") {
  if (!vulkan_test_backend()) return;
  using Kind = fb::DecayKind;
  for_decays({Kind::None, Kind::Log, Kind::Softplus}, [](int64_t tokens, Kind kind, bool per_channel) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          const int64_t heads = 2, k = per_channel ? 24 : 64, v = per_channel ? 33 : 16;
          fb::GatedDeltaRuleT args;
          args.key_heads = 1;
          args.value_heads = 2;
          args.key_dim = static_cast<int>(k);
          args.value_dim = static_cast<int>(v);
          args.scale = 0.2f;
          args.decay = decay_of(kind);
          args.query_map = std::make_unique<fb::HeadMapT>();
          args.key_map = std::make_unique<fb::HeadMapT>();
          args.query_map->norm = per_channel ? fb::HeadNorm::None : fb::HeadNorm::L2;
          args.key_map->norm = fb::HeadNorm::L2;
          args.key_map->activation = fb::Activation::Silu;
          args.value_activation = fb::Activation::Silu;
          args.beta_activation = fb::Activation::Sigmoid;
          args.beta_scale = 2;
          b.args(args);
          for (int i = 0; i < 2; ++i) b.input({kTokens, k});
          b.input({kTokens, heads * v});
          if (tokens == 16)
            b.absent_input();
          else
            b.input({kTokens, heads}, uniform(-3, 3));
          if (kind == Kind::None)
            b.absent_input();
          else
            b.input({kTokens, per_channel ? heads * k : heads}, uniform(-3, 0.2f));
          if (kind == Kind::Softplus) b.vector({heads}, uniform(-1, 0));
          b.state(fb::StateRole::Recurrent, {heads, k, v});
          b.initial_state(0, normal());
          b.output({kTokens, heads * v});
        },
        static_cast<uint64_t>(tokens), tokens);
    check_both(*op, 3e-5f);
  });
}

TEST_CASE("RWKV-7's recurrence by tokens and in chunks: with and without each optional operand") {
  if (!vulkan_test_backend()) return;
  for (const int64_t tokens : {16, 29})
    for (const bool all : {false, true}) {
      CAPTURE(tokens);
      CAPTURE(all);
      const auto op = make_op(
          [&](OpBuilder& b, Random&) {
            const int64_t heads = 2, k = all ? 64 : 24, v = all ? 64 : 33;
            fb::DplrRecurrenceT args;
            args.heads = static_cast<int>(heads);
            args.key_dim = static_cast<int>(k);
            args.value_dim = static_cast<int>(v);
            args.scale = 0.3f;
            args.decay = decay_of(fb::DecayKind::Sigmoid);
            args.decay->slope = -0.606531f;
            args.rate_activation = fb::Activation::Sigmoid;
            args.removal_epsilon = 1e-12f;
            b.args(args);
            b.input({kTokens, heads * k});
            b.input({kTokens, heads * k}, uniform(-4, 4));
            b.input({kTokens, heads * k}, normal());
            b.input({kTokens, heads * v});
            b.input({kTokens, heads * k}, uniform(-3, 3));
            if (all)
              b.absent_input();
            else
              b.input({kTokens, heads * k}, uniform(-0.1f, 0.1f));
            if (all)
              for (int i = 0; i < 2; ++i) b.input({kTokens, heads * v}, uniform(-3, 3));
            b.absent_weight();
            b.absent_weight();
            if (all)
              for (int i = 0; i < 3; ++i) b.vector({heads * k}, uniform(0.5f, 1.5f));
            b.state(fb::StateRole::Recurrent, {heads, k, v});
            b.initial_state(0, normal());
            b.output({kTokens, heads * v});
            if (all) b.output({kTokens, heads * v});
          },
          static_cast<uint64_t>(tokens), tokens);
      check_both(*op, 3e-5f);
    }
  check_silent(*without_chunks());
  check_vulkan_messages();
}
#endif
