// Matrices larger than a device binds: the same results with maxStorageBufferRange forced down to 1 MiB,
// where matrices are cut into parts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/ops/op_check.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;

namespace {

void check_in_parts(const BuildOp& build, int64_t tokens) {
  const Backend* whole = vulkan_test_backend();
  if (!whole) return;  // said
  static const VulkanBackend* const limited = [] {
    VulkanOptions options;
    options.most_binding_bytes = uint64_t{1} << 20;
    auto backend = open_test_vulkan(options);
    REQUIRE_MESSAGE(backend, (backend ? "" : backend.error().message));
    return backend->release();
  }();
  const auto op = make_op(build, 1, tokens);
  const OpRun a = run_op(*op, *whole), b = run_op(*op, *limited);
  check_truth("whole", a.outputs[0]);
  // Parts may be added in another order.
  check_below("in parts", relative_difference(b.outputs[0], a.outputs[0]), 1e-6);
  check_silent(*limited);
}

}  // namespace

TEST_CASE("a limit of 1 MiB: linear, gated with matrices cut at different rows") {
  check_in_parts(
      [](OpBuilder& op, Random&) {
        fb::LinearT args;
        args.gated = true;
        args.activation = fb::Activation::Silu;
        op.args(args);
        op.input({kTokens, 256}, normal());
        op.matrix(DType::kF32, 2500, 256);
        op.absent_weight();
        op.matrix(DType::kF16, 2500, 256);
        op.vector({2500});
        op.output({kTokens, 2500});
      },
      2);
}

TEST_CASE("a limit of 1 MiB: embedding and logits") {
  check_in_parts(
      [](OpBuilder& op, Random&) {
        op.args(fb::EmbeddingT());
        op.input_ids(std::vector<int32_t>{0, 2999, 1023, 1024, 1500});
        op.matrix(DType::kF32, 3000, 256);
        op.output({kTokens, 256});
      },
      5);
  check_in_parts(
      [](OpBuilder& op, Random&) {
        op.args(fb::LogitsT());
        op.symbol("logit_tokens", 1);
        op.input({kTokens, 256}, normal());
        op.matrix(DType::kQ8, 5000, 256);
        op.output({Extent("logit_tokens"), 5000});
      },
      2);
}

TEST_CASE("a limit of 1 MiB: the stacks of a mixture of experts") {
  check_in_parts(
      [](OpBuilder& op, Random&) {
        fb::MixtureOfExpertsT args;
        args.experts = 24;
        args.top_k = 5;
        args.renormalize = true;
        args.activation = fb::Activation::Silu;
        op.args(args);
        op.input({kTokens, 96}, normal());
        op.matrix(DType::kF32, 24, 96);
        op.absent_weight();
        op.matrices(DType::kF32, 24, 160, 96, normal(0.1f));
        op.matrices(DType::kF32, 24, 160, 96, normal(0.1f));
        op.matrices(DType::kF32, 24, 96, 160, normal(0.1f));
        op.output({kTokens, 96});
      },
      3);
}
