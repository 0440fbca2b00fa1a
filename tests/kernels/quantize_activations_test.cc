#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backends/cpu/matmul.h"
#include "backends/cpu/targets.h"

namespace linnet::cpu {
namespace {

std::vector<ActivationGroup> quantize(CpuTarget target, const std::vector<float>& x) {
  const auto k = static_cast<int64_t>(x.size());
  std::vector<ActivationGroup> groups((x.size() + 31) / 32);
  matmul_kernels(target).quantize_rows(x.data(), 1, k, k, Refine::kNone,
                                       reinterpret_cast<std::byte*>(groups.data()));
  return groups;
}

}  // namespace

TEST_CASE("activations round to the nearest of 255 levels and carry their sums") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const CpuTarget target : supported_targets())
    for (const size_t k : {1u, 31u, 32u, 33u, 200u}) {
      CAPTURE(target_name(target));
      CAPTURE(k);
      std::vector<float> x(k);
      REQUIRE_FALSE(x.empty());
      for (float& v : x) v = std::exp(3 * normal(random)) * (normal(random) < 0 ? -1.0f : 1.0f);
      const auto groups = quantize(target, x);
      for (size_t g = 0; g < groups.size(); ++g) {
        int sum = 0, halves[2] = {};
        float largest = 0;
        for (size_t i = 0; i < 32; ++i) {
          const float v = g * 32 + i < k ? x[g * 32 + i] : 0.0f;
          largest = std::max(largest, std::abs(v));
          sum += groups[g].q[i];
          halves[i / 16] += groups[g].q[i];
          // Half a step, and what the float products before the rounding may add to it.
          CHECK(std::abs(v - groups[g].d * static_cast<float>(groups[g].q[i])) <= 0.50005f * groups[g].d);
          CHECK(groups[g].q[i] >= -127);
        }
        CHECK(groups[g].d == largest / 127.0f);
        CHECK(groups[g].sum == groups[g].d * static_cast<float>(sum));
        CHECK(groups[g].bias8 == -8 * sum);
        for (size_t h = 0; h < 2; ++h) CHECK(groups[g].half_sum[h] == halves[h]);
      }
    }
}

TEST_CASE("ties go to even") {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = -2.5f;
  for (const CpuTarget target : supported_targets()) {
    const auto group = quantize(target, x)[0];
    CHECK(group.q[1] == 0);
    CHECK(group.q[2] == 2);
    CHECK(group.q[3] == -2);
  }
}

TEST_CASE("every target quantises to the same bytes") {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(32 * 64 + 7);
  for (float& v : x) v = normal(random);
  const auto first = quantize(CpuTarget::kPortable, x);
  for (const CpuTarget target : supported_targets()) {
    CAPTURE(target_name(target));
    const auto groups = quantize(target, x);
    CHECK(std::memcmp(groups.data(), first.data(), first.size() * sizeof(ActivationGroup)) == 0);
  }
}

TEST_CASE("zero, tiny and huge groups") {
  for (const CpuTarget target : supported_targets()) {
    CAPTURE(target_name(target));
    for (const float v : {0.0f, -0.0f, 1e-45f, 1e-38f, -1e-37f}) {
      const auto group = quantize(target, std::vector<float>(32, v))[0];
      CHECK(group.d == 0.0f);
      CHECK(group.sum == 0.0f);
      CHECK(group.q[7] == 0);
    }
    for (const float v : {1e-30f, 1e36f}) {
      const auto group = quantize(target, std::vector<float>(32, v))[0];
      CHECK(group.q[7] == 127);
      CHECK(std::isfinite(group.sum));
    }
  }
}

TEST_CASE("the groups that carry more than an eighth of a row's error get a second term") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  constexpr size_t kK = 10 * 32 + 5;
  std::vector<float> even(kK), uneven;
  for (float& v : even) v = normal(random);
  uneven = even;
  uneven[70] = 50;       // group 2
  uneven[kK - 1] = -40;  // the last group, which is not whole
  const auto k = static_cast<int64_t>(kK);
  std::vector<std::byte> first;
  for (const CpuTarget target : supported_targets()) {
    CAPTURE(target_name(target));
    const auto rows = [&](const std::vector<float>& x, Refine refine) {
      std::vector<std::byte> bytes(quantized_row_bytes(k, refine));
      matmul_kernels(target).quantize_rows(x.data(), 1, k, k, refine, bytes.data());
      return bytes;
    };
    std::vector<std::byte> row = rows(uneven, Refine::kLargest);
    const auto* group = reinterpret_cast<const ActivationGroup*>(row.data());
    const auto* list = reinterpret_cast<const int32_t*>(group + 11);
    REQUIRE(list[0] == 2);
    CHECK(list[1] == 2);
    CHECK(list[2] == 10);
    const auto* second = reinterpret_cast<const ActivationGroup*>(
        reinterpret_cast<const std::byte*>(list) + refined_list_bytes(refined_capacity(k, Refine::kLargest)));
    for (const int32_t i : {0, 1})
      for (size_t j = 0; j < 32; ++j) {
        const auto at = static_cast<size_t>(list[1 + i]) * 32 + j;
        const ActivationGroup &a = group[list[1 + i]], &b = second[i];
        const double sum = static_cast<double>(a.d) * a.q[j] + static_cast<double>(b.d) * b.q[j];
        CHECK(std::abs(sum - (at < kK ? uneven[at] : 0.0f)) <= 0.501 * b.d);
        CHECK(b.d < 0.00395f * a.d);  // half a step over 127 of the first term
      }
    // What lies behind the two terms in use is not written.
    row.resize(static_cast<size_t>(reinterpret_cast<const std::byte*>(second + 2) - row.data()));
    std::memset(row.data() + 11 * sizeof(ActivationGroup) + 12, 0, 20);
    if (first.empty()) first = row;
    CHECK(row == first);
    const auto none = rows(even, Refine::kLargest);
    CHECK(reinterpret_cast<const int32_t*>(none.data() + 11 * sizeof(ActivationGroup))[0] == 0);
  }
}

TEST_CASE("rows are read with their stride") {
  std::vector<float> x(3 * 40, 0.0f);
  for (size_t t = 0; t < 3; ++t) x[t * 40] = static_cast<float>(t + 1);
  for (const CpuTarget target : supported_targets()) {
    std::vector<ActivationGroup> groups(6);
    matmul_kernels(target).quantize_rows(x.data(), 3, 33, 40, Refine::kNone,
                                         reinterpret_cast<std::byte*>(groups.data()));
    for (size_t t = 0; t < 3; ++t) {
      CHECK(groups[2 * t].d == static_cast<float>(t + 1) / 127.0f);
      CHECK(groups[2 * t + 1].d == 0.0f);
    }
  }
}

}  // namespace linnet::cpu
