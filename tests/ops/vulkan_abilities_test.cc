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

namespace {

// Kept for as long as the process lives, as vulkan_test_backend().
const VulkanBackend* with(bool all) {
  const auto open = [](bool every) -> const VulkanBackend* {
    VulkanOptions options;
    (every ? options.even_if_slow : options.without) =
        std::vector<std::string>(std::begin(kVulkanAbilities), std::end(kVulkanAbilities));
    auto backend = open_test_vulkan(options);
    REQUIRE_MESSAGE(backend, (backend ? "" : backend.error().message));
    return backend->release();
  };
  if (!vulkan_test_backend()) return nullptr;  // said
  static const VulkanBackend* const backends[] = {open(false), open(true)};
  return backends[all ? 1 : 0];
}

// All that there is but f16: what is exact without it is held to that.
const VulkanBackend* without_halves() {
  static const VulkanBackend* const backend = []() -> const VulkanBackend* {
    VulkanOptions options;
    options.without = {"fp16", "cooperative_matrix"};
    for (const std::string_view name : kVulkanAbilities)
      if (std::ranges::find(options.without, name) == options.without.end())
        options.even_if_slow.emplace_back(name);
    auto made = open_test_vulkan(options);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().message));
    return made->release();
  }();
  return backend;
}

// Null where the device lacks `ability`, which is used although it may be slow there, and none of `without`.
const VulkanBackend* with_only(const char* ability, std::vector<std::string> without) {
  VulkanOptions options;
  options.without = std::move(without);
  options.even_if_slow = {ability};
  if (!vulkan_test_backend()) return nullptr;  // said
  auto made = open_test_vulkan(options);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().message));
  return std::ranges::count((*made)->device().abilities, ability) > 0 ? made->release() : nullptr;
}
// The same, said to be skipped.
const VulkanBackend* or_skipped(const VulkanBackend* backend, const char* ability) {
  if (!backend && vulkan_test_backend()) skipped(std::string("the Vulkan device lacks ") + ability);
  return backend;
}

// f16 where integers or matrix units would be taken otherwise.
const VulkanBackend* with_halves() {
  static const VulkanBackend* const backend = with_only("fp16", {"integer_dot", "cooperative_matrix"});
  return or_skipped(backend, "fp16");
}

// Matrix units, which come before integers and f16.
const VulkanBackend* with_units() {
  static const VulkanBackend* const backend = with_only("cooperative_matrix", {});
  return or_skipped(backend, "cooperative_matrix");
}

// Sums and largest magnitudes of a stretch of inputs and of weights, and the sum of their products'.
struct Magnitudes {
  double products = 0, all_x = 0, all_w = 0, most_x = 0, most_w = 0;
};
Magnitudes magnitudes(const float* x, const float* w, size_t count) {
  Magnitudes m;
  for (size_t i = 0; i < count; ++i) {
    const double a = std::fabs(static_cast<double>(x[i])), b = std::fabs(static_cast<double>(w[i]));
    m.products += a * b;
    m.all_x += a;
    m.all_w += b;
    m.most_x = std::max(m.most_x, a);
    m.most_w = std::max(m.most_w, b);
  }
  return m;
}

// f(x row, w row) for every element of x W^T.
template <class F>
std::vector<double> for_outputs(std::span<const float> x, const std::vector<float>& w, int64_t k,
                                const F& f) {
  const auto inputs = static_cast<size_t>(k), rows = x.size() / inputs, n = w.size() / inputs;
  std::vector<double> out(rows * n);
  for (size_t r = 0; r < rows; ++r)
    for (size_t j = 0; j < n; ++j) out[r * n + j] = f(x.data() + r * inputs, w.data() + j * inputs);
  return out;
}

// Allowed |y - exact y| for products in f16 (shaders/linear_tiled.glsl). A driver may round to f16 either
// way: by 2^-10 of the number. So are rounded an input, a weight, their product, and three times the sum of
// four products, which is at most the sum of their magnitudes. What is below 2^-14 of its group's largest may
// be taken for zero: an input, a weight, and a product or partial sum, of which a group of 32 has fewer than
// 64; the largest is at most twice the power of two that it was divided by.
std::vector<double> half_bound(std::span<const float> x, const std::vector<float>& w, int64_t k) {
  const auto inputs = static_cast<size_t>(k);
  return for_outputs(x, w, k, [&](const float* row, const float* weights) {
    double total = 0;
    for (size_t g = 0; g < inputs; g += 32) {
      const Magnitudes m = magnitudes(row + g, weights + g, std::min<size_t>(32, inputs - g));
      total += 6.01 * 0x1p-10 * m.products +
               0x1p-14 * (m.most_x * m.all_w + m.most_w * m.all_x + 64 * m.most_x * m.most_w);
    }
    return total;
  });
}

// The same for matrix units (shaders/linear_cooperative.glsl). An input and a weight are rounded to f16,
// either way; what is below 2^-28 of the largest of its row may be taken for zero, where a weight's largest
// is reckoned from its group's scales, up to 32 times too large. What the units do is nearly in f32, but not
// all of them round to nearest: as much as a rounding of each of the k products by 2^-22 of their sum is
// allowed.
std::vector<double> unit_bound(std::span<const float> x, const std::vector<float>& w, int64_t k) {
  return for_outputs(x, w, k, [&](const float* row, const float* weights) {
    const Magnitudes m = magnitudes(row, weights, static_cast<size_t>(k));
    return (2.01 * 0x1p-10 + static_cast<double>(k) * 0x1p-22) * m.products + 0x1p-28 * m.most_x * m.all_w +
           0x1p-23 * m.most_w * m.all_x;
  });
}

// The largest distance of an element from the reference, over what is allowed for it.
double worst(const OpRun& truth, const OpRun& found, double scale,
             const std::vector<std::vector<double>>& allowed = {}) {
  double worst = 0;
  for (size_t o = 0; o < truth.outputs.size(); ++o) {
    REQUIRE(found.outputs[o].size() == truth.outputs[o].size());
    const double most = largest_magnitude(truth.outputs[o]);
    REQUIRE(std::isfinite(most));
    for (size_t i = 0; i < truth.outputs[o].size(); ++i) {
      const double apart = std::fabs(static_cast<double>(found.outputs[o][i]) - truth.outputs[o][i]);
      const double may = scale * most + (allowed.empty() ? 0 : allowed[o][i]) + 1e-6;
      worst = std::max(worst, std::isfinite(apart) ? apart / may : 1e30);
    }
  }
  return worst;
}
double worst(const OpCase& op, const Backend& backend, double scale,
             const std::vector<std::vector<double>>& allowed = {}) {
  return worst(run_op(op, reference_backend()), run_op(op, backend), scale, allowed);
}

// With all abilities and with none: like the reference, and where `ability` is there not in the same bits, or
// it would be one way that ran.
void check_both_ways(const OpCase& op, double scale, const char* ability,
                     const std::vector<int64_t>& pieces = {}) {
  const OpRun truth = run_op(op, reference_backend());
  for (const std::vector<float>& output : truth.outputs) check_truth("output", output);
  const OpRun none = run_op(op, *with(false), 1, pieces), all = run_op(op, *with(true), 1, pieces);
  CHECK(worst(truth, none, scale) <= 1);
  CHECK(worst(truth, all, scale) <= 1);
  if (std::ranges::count(with(true)->device().abilities, ability) > 0) CHECK(none.outputs != all.outputs);
}

// One of each kind that the shaders tell apart (every type runs in linear_test and logits_test): pipelines
// take most of this file's time.
constexpr DType kKindsOfTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8,
                                   DType::kQ4A, DType::kQ6K, DType::kIQ4XS};

}  // namespace

TEST_CASE(
    "products of many tokens: plainly, in tiles, with integers, in f16 and in matrix units, at every edge of "
    "a tile") {
  if (!with(false)) return;
  const bool integers = std::ranges::count(with(true)->device().abilities, "integer_dot") > 0;
  if (!integers) skipped("the Vulkan device lacks integer_dot");
  for (const DType dtype : kKindsOfTypes)
    for (const int64_t tokens : {15, 16, 32, 33, 70}) {
      CAPTURE(dtype_name(dtype));
      CAPTURE(tokens);
      std::vector<std::vector<double>> bound, halves, units;
      const auto op = make_op(
          [&](OpBuilder& b, Random& random) {
            const int64_t k = random.choice({32, 71, 160}), n = random.choice({16, 65, 130});
            b.args(fb::LinearT());
            b.input({kTokens, k}, normal());
            b.matrix(dtype, n, k);
            b.vector({n});
            b.output({kTokens, n});
            bound = {product_bound(dtype, b.input_values(0), b.stored_matrix(0), k)};
            halves = {half_bound(b.input_values(0), b.stored_matrix(0), k)};
            units = {unit_bound(b.input_values(0), b.stored_matrix(0), k)};
          },
          static_cast<uint64_t>(tokens) + static_cast<uint64_t>(dtype), tokens);
      CHECK(worst(*op, *with(false), 3e-6) <= 1);
      // Activations are rounded to f16 or 8 bits only where weights allow it.
      const std::vector<std::vector<double>> exact;
      const bool fits = dtype == DType::kF16 || is_quantized(dtype);
      CHECK(worst(*op, *with(true), 3e-6,
                  fits && with_units()    ? units
                  : is_quantized(dtype)   ? bound
                  : fits && with_halves() ? halves
                                          : exact) <= 1);
      CHECK(worst(*op, *without_halves(), 3e-6, is_quantized(dtype) ? bound : exact) <= 1);
      // And f16 it is, from a tile on.
      if (with_halves()) {
        CHECK(worst(*op, *with_halves(), 3e-6, fits ? halves : exact) <= 1);
        if (fits && tokens >= 16) CHECK(worst(*op, *with_halves(), 3e-6) > 1);
      }
      if (with_units()) {
        CHECK(worst(*op, *with_units(), 3e-6, fits ? units : exact) <= 1);
        if (fits && tokens >= 16) CHECK(worst(*op, *with_units(), 3e-6) > 1);
      }
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
    const bool mixed = other == DType::kF16;  // no integers then
    CHECK(worst(*op, *with(true), !mixed ? 0.02 : with_halves() || with_units() ? 0.004 : 3e-6) <= 1);
    CHECK(worst(*op, *without_halves(), mixed ? 3e-6 : 0.02) <= 1);
    for (const VulkanBackend* half : {with_halves(), with_units()})
      if (half) CHECK(worst(*op, *half, 0.004) <= 1);
  }
}

TEST_CASE("matrix units: rows of any magnitude, beyond what f16 holds") {
  if (!with_units()) return;
  for (const DType dtype : kKindsOfTypes) {
    if (dtype != DType::kF16 && !is_quantized(dtype)) continue;  // those that matrix units take
    CAPTURE(dtype_name(dtype));
    // Each row by itself: its outputs are held to its own magnitude.
    for (const float magnitude : {0.0f, 1e-42f, 1e-30f, 1e-5f, 7e4f, 1e9f, 1e30f}) {
      CAPTURE(magnitude);
      std::vector<std::vector<double>> bound;
      const auto op = make_op(
          [&](OpBuilder& b, Random&) {
            const int64_t k = 70;
            b.args(fb::LinearT());
            b.input({kTokens, k}, [&](Random& random, std::span<float> values) {
              for (size_t i = 0; i < values.size(); ++i)
                values[i] = random.normal() * magnitude * (i % 7 == 0 ? 1e-3f : 1.0f);
            });
            // As large as f16 scales go, and rows of very different size.
            b.matrix(dtype, 40, k, [&](Random& random, std::span<float> values) {
              for (size_t i = 0; i < values.size(); ++i)
                values[i] = random.normal() * std::exp2(static_cast<float>(i / 70 % 20) - 10.0f);
            });
            b.absent_weight();
            b.output({kTokens, 40});
            bound = {unit_bound(b.input_values(0), b.stored_matrix(0), k)};
          },
          static_cast<uint64_t>(dtype), 20);
      CHECK(worst(*op, *with_units(), 0, bound) <= 1);
    }
  }
}

TEST_CASE("what is not finite stays so with integers and f16, and only in its row") {
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
  for (const VulkanBackend* backend : {with(false), with(true), with_halves(), with_units()}) {
    if (!backend) continue;
    const OpRun found = run_op(*op, *backend);
    for (size_t i = 0; i < found.outputs[0].size(); ++i)
      CHECK(std::isfinite(found.outputs[0][i]) == (i / 20 != 3 && i / 20 != 7));
  }
}

TEST_CASE("products of few tokens: slices added up by subgroups and without them, every kind of type") {
  if (!with(false)) return;
  for (const DType dtype : kKindsOfTypes)
    for (const int64_t tokens : {1, 3, 11})
      for (const bool whole : {false, true}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(tokens);
        CAPTURE(whole);
        const auto op = make_op(
            [&](OpBuilder& b, Random& random) {
              // Fewer groups of inputs than slices and several for each.
              const int64_t k = whole ? random.choice({64, 544, 1120}) : random.choice({71, 531, 1101});
              const int64_t n = random.choice({16, 65, 130});
              b.args(fb::LinearT());
              b.input({kTokens, k}, normal());
              b.matrix(dtype, n, k);
              b.vector({n});
              b.output({kTokens, n});
            },
            static_cast<uint64_t>(tokens) + 100 * static_cast<uint64_t>(dtype) + (whole ? 50 : 0), tokens);
        check_both_ways(*op, 3e-6, "subgroup_shuffle");
      }
}

TEST_CASE("gates, logits and experts of few tokens: slices added up by subgroups and without them") {
  if (!with(false)) return;
  for (const DType dtype : {DType::kF16, DType::kQ4A}) {
    CAPTURE(dtype_name(dtype));
    const auto gated = make_op(
        [&](OpBuilder& b, Random&) {
          fb::LinearT args;
          args.gated = true;
          args.activation = fb::Activation::Silu;
          b.args(args);
          b.input({kTokens, 300}, normal());
          b.input({kTokens, 75}, normal());
          b.matrix(DType::kQ8, 75, 300, normal(0.1f));
          b.vector({75});
          b.matrix(dtype, 75, 300, normal(0.1f));
          b.vector({75});
          b.output({kTokens, 75});
        },
        3, 2);
    check_both_ways(*gated, 3e-6, "subgroup_shuffle");
    const auto logits = make_op(
        [&](OpBuilder& b, Random&) {
          fb::LogitsT args;
          args.scale = 0.7f;
          args.softcap = 30;
          b.args(args);
          b.symbol("logit_tokens", 2);
          b.input({kTokens, 352}, normal());
          b.matrix(dtype, 123, 352, normal(0.1f));
          b.output({Extent("logit_tokens"), 123});
        },
        4, 5);
    check_both_ways(*logits, 3e-6, "subgroup_shuffle");
    for (const int64_t width : {160, 150}) {
      const auto experts = make_op(
          [&](OpBuilder& b, Random&) {
            fb::MixtureOfExpertsT args;
            args.experts = 5;
            args.top_k = 2;
            args.renormalize = true;
            args.activation = fb::Activation::Silu;
            b.args(args);
            b.input({kTokens, width}, normal());
            b.matrix(DType::kF32, 5, width);
            b.absent_weight();
            for (int i = 0; i < 2; ++i) b.matrices(dtype, 5, 360, width, normal(0.1f));
            b.matrices(dtype, 5, width, 360, normal(0.1f));
            for (int i = 0; i < 2; ++i) b.matrix(dtype, 90, width, normal(0.1f));
            b.matrix(dtype, width, 90, normal(0.1f));
            b.output({kTokens, width});
          },
          5, 3);
      check_both_ways(*experts, 3e-6, "subgroup_shuffle");
    }
  }
}

TEST_CASE("a token over thousands of keys: split over groups and not") {
  if (!with(false)) return;
  struct Case {
    int64_t heads, value_dim, tokens;
    plan::AttentionBounds bounds;
    DType cache;
    std::vector<int64_t> pieces;
  };
  const Case cases[] = {
      // All keys, in two parts of 1250: single tokens at the start, across the border and at the end.
      {1, 8, 2500, {}, DType::kF32, {5, 1, 1241, 1, 1, 1, 1, 1, 1, 1242, 1, 1, 1, 1, 1}},
      // A window that has moved on, and sinks, in a ring that has come round.
      {1,
       8,
       2305,
       {false, 2080, 3},
       DType::kF32,
       {200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 100, 1, 1, 1, 1, 1}},
      // Several channels a thread; keys in two of three parts.
      {1, 136, 1100, {false, 2100, 3}, DType::kF32, {1097, 1, 1, 1}},
      {2, 8, 2060, {}, DType::kF16, {2057, 1, 1, 1}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.tokens);
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::SoftmaxAttentionT args;
          args.heads = static_cast<int>(c.heads);
          args.kv_heads = 1;
          args.head_dim = 8;
          args.value_dim = static_cast<int>(c.value_dim);
          args.scale = 0.5f;
          if (!c.bounds.full) {
            args.rope = std::make_unique<fb::RotaryEmbeddingT>();
            args.rope->head_dim = 8;
            args.rope->inverse_frequencies = {1, 0.1f, 0.01f, 0.001f};
          }
          b.options().attention = c.bounds;
          b.options().cache_dtype = c.cache;
          b.args(args);
          b.input({kTokens, c.heads * 8}, normal());
          b.input({kTokens, 8}, normal());
          b.input({kTokens, c.value_dim}, normal());
          if (c.heads == 1) b.input({kTokens, c.heads * c.value_dim}, normal());
          b.state(fb::StateRole::KeyCache, {kContext, 8});
          b.state(fb::StateRole::ValueCache, {kContext, c.value_dim});
          b.output({kTokens, c.heads * c.value_dim});
        },
        static_cast<uint64_t>(c.tokens), c.tokens);
    check_both_ways(*op, 4e-6, "split_keys", c.pieces);
  }
}

TEST_CASE("a token over thousands of keys: one that is NaN reaches it through any part") {
  if (!with(false)) return;
  for (const size_t bad : {size_t{7}, size_t{2055}}) {
    const auto op = make_op(
        [&](OpBuilder& b, Random&) {
          fb::SoftmaxAttentionT args;
          args.heads = args.kv_heads = 1;
          args.head_dim = args.value_dim = 4;
          b.args(args);
          b.input({kTokens, 4}, normal());
          b.input({kTokens, 4}, [&](Random& random, std::span<float> values) {
            for (float& v : values) v = random.normal();
            values[4 * bad] = NAN;
          });
          b.input({kTokens, 4}, normal());
          b.state(fb::StateRole::KeyCache, {kContext, 4});
          b.state(fb::StateRole::ValueCache, {kContext, 4});
          b.output({kTokens, 4});
        },
        1, 2060);
    const OpRun found = run_op(*op, *with(true), 1, {2054, 1, 1, 1, 1, 1, 1});
    for (size_t i = 4 * 2054; i < found.outputs[0].size(); ++i)
      CHECK(std::isnan(found.outputs[0][i]) == (i / 4 >= bad));
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
  check_silent(*with(false));
  check_silent(*with(true));
  check_silent(*without_halves());
  for (const VulkanBackend* half : {with_halves(), with_units()})
    if (half) check_silent(*half);
}
