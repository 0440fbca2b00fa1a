// Ways that a shader goes only on some devices, each on and off: the same results.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "backends/reference/reference.h"
#include "tests/ops/op_check.h"
#include "tests/ops/rounding_bound.h"
#include "tests/vulkan_device.h"

using namespace linnet;
using namespace linnet::testing;

#if LINNET_HAS_VULKAN
namespace {

// Kept for as long as the process lives, as vulkan_test_backend().
const VulkanBackend* with(bool all) {
  const auto open = [](bool every) -> const VulkanBackend* {
    VulkanOptions options;
    (every ? options.even_if_slow : options.without) =
        std::vector<std::string>(std::begin(kVulkanAbilities), std::end(kVulkanAbilities));
    auto backend = open_test_vulkan(options);
    return backend ? backend->release() : nullptr;
  };
  if (!vulkan_test_backend()) return nullptr;
  static const VulkanBackend* const backends[] = {open(false), open(true)};
  return backends[all ? 1 : 0];
}

// The largest distance of an element from the reference, over what is allowed for it.
double worst(const OpCase& op, const Backend& backend, double scale,
             const std::vector<std::vector<double>>& allowed = {}) {
  const OpRun truth = run_op(op, reference_backend()), found = run_op(op, backend);
  double worst = 0;
  for (size_t o = 0; o < truth.outputs.size(); ++o) {
    REQUIRE(found.outputs[o].size() == truth.outputs[o].size());
    double most = 0;
    for (const float v : truth.outputs[o]) most = std::max(most, std::fabs(static_cast<double>(v)));
    for (size_t i = 0; i < truth.outputs[o].size(); ++i) {
      const double apart = std::fabs(static_cast<double>(found.outputs[o][i]) - truth.outputs[o][i]);
      const double may = scale * most + (allowed.empty() ? 0 : allowed[o][i]) + 1e-6;
      worst = std::max(worst, std::isnan(apart) ? 1e30 : apart / may);
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("products of many tokens: plainly, in tiles and with integers, at every edge of a tile") {
  if (!with(false)) return;
  const bool integers = std::ranges::count(with(true)->device().abilities, "integer_dot") > 0;
  if (!integers) MESSAGE("SKIPPED: the device has no integer dot product");
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8, DType::kQ4, DType::kQ4A})
    for (const int64_t tokens : {15, 16, 32, 33, 70}) {
      CAPTURE(dtype_name(dtype));
      CAPTURE(tokens);
      std::vector<std::vector<double>> bound;
      const auto op = make_op(
          [&](OpBuilder& b, Random& random) {
            const int64_t k = random.choice({32, 71, 160}), n = random.choice({16, 65, 130});
            b.args(fb::LinearT());
            b.input({kTokens, k}, normal());
            b.matrix(dtype, n, k);
            b.vector({n});
            b.output({kTokens, n});
            bound = {product_bound(dtype, b.input_values(0), b.stored_matrix(0), k)};
          },
          static_cast<uint64_t>(tokens) + static_cast<uint64_t>(dtype), tokens);
      CHECK(worst(*op, *with(false), 3e-6) <= 1);
      // Activations are rounded to 8 bits only where weights are in groups.
      CHECK(worst(*op, *with(true), 3e-6, is_quantized(dtype) ? bound : std::vector<std::vector<double>>()) <=
            1);
    }
}

TEST_CASE("gates and residuals in tiles, matrices of different types") {
  if (!with(false)) return;
  for (const DType other : {DType::kQ4A, DType::kF16}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::LinearT args;
          args.gated = true;
          args.activation = fb::Activation::Silu;
          b.args(args);
          b.input({kTokens, 96}, normal());
          b.input({kTokens, 75}, normal());
          b.matrix(DType::kQ8, 75, 96, normal(0.1f));
          b.vector({75});
          b.matrix(other, 75, 96, normal(0.1f));
          b.vector({75});
          b.output({kTokens, 75});
        },
        3, 37);
    CHECK(worst(*op, *with(false), 3e-6) <= 1);
    CHECK(worst(*op, *with(true), other == DType::kF16 ? 3e-6 : 0.02) <= 1);
  }
}

TEST_CASE("what is not finite stays so with integers, and only in its row") {
  if (!with(false)) return;
  const auto op = make_op(
      [](OpBuilder& b, Random&) {
        b.args(fb::LinearT());
        b.input({kTokens, 64}, [](Random& random, std::span<float> values) {
          for (float& v : values) v = random.normal();
          values[64 * 3 + 40] = NAN;
          values[64 * 7 + 1] = INFINITY;
        });
        b.matrix(DType::kQ8, 20, 64);
        b.absent_weight();
        b.output({kTokens, 20});
      },
      1, 20);
  for (const bool all : {false, true}) {
    const OpRun found = run_op(*op, *with(all));
    for (size_t i = 0; i < found.outputs[0].size(); ++i)
      CHECK(std::isfinite(found.outputs[0][i]) == (i / 20 != 3 && i / 20 != 7));
  }
}

TEST_CASE("norms and attention with and without subgroups") {
  if (!with(false)) return;
  for (const int64_t channels : {5, 64, 300}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          b.args(fb::NormT());
          b.input({kTokens, channels}, normal());
          b.vector({channels});
          b.output({kTokens, channels});
        },
        2, 3);
    for (const bool all : {false, true}) CHECK(worst(*op, *with(all), 3e-6) <= 1);
  }
  CHECK(with(false)->validation_messages().empty());
  CHECK(with(true)->validation_messages().empty());
}
#endif
