// Elementary functions against double precision, on every target. By default every 4,099th float is tried;
// with LINNET_EVERY_FLOAT set all 2^32 of them (minutes).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/vector_math_test.cc"
#include "backends/cpu/highway_targets.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backends/cpu/vector_math_inl.h"

#ifndef LINNET_VECTOR_MATH_TEST_FUNCTIONS  // once for all targets
#define LINNET_VECTOR_MATH_TEST_FUNCTIONS
namespace linnet::cpu {
enum class Function { kExp, kTanh, kSigmoid, kSilu, kGelu, kSoftplus, kLogSigmoid };
}
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::cpu::HWY_NAMESPACE {

void apply(Function function, const float* x, int64_t n, float* y) {
  const auto each = [&](auto f) HWY_ATTR {
    for_lanes(n, [&](auto lanes, int64_t i) HWY_ATTR { lanes.store(f(lanes.load(x + i)), y + i); });
  };
  switch (function) {
    case Function::kExp:
      return each([](FloatVec v) HWY_ATTR { return exp(v); });
    case Function::kTanh:
      return each([](FloatVec v) HWY_ATTR { return tanh(v); });
    case Function::kSigmoid:
      return each([](FloatVec v) HWY_ATTR { return sigmoid(v); });
    case Function::kSilu:
      return each([](FloatVec v) HWY_ATTR { return silu(v); });
    case Function::kGelu:
      return each([](FloatVec v) HWY_ATTR { return gelu(v); });
    case Function::kSoftplus:
      return each([](FloatVec v) HWY_ATTR { return softplus(v); });
    case Function::kLogSigmoid:
      return each([](FloatVec v) HWY_ATTR { return log_sigmoid(v); });
  }
}

}  // namespace linnet::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "backends/cpu/kernels.h"
#include "runtime/core/strings.h"
#include "tests/compare.h"

namespace linnet::cpu {
namespace {

double exact(Function function, double x) {
  switch (function) {
    case Function::kExp:
      return std::exp(x);
    case Function::kTanh:
      return std::tanh(x);
    case Function::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Function::kSilu:
      return x / (1 + std::exp(-x));
    case Function::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Function::kSoftplus:
      return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x)));
    case Function::kLogSigmoid:
      return std::fmin(x, 0) - std::log1p(std::exp(-std::fabs(x)));
  }
  return 0;
}

// |got - want| in units of the last place of a float of want's size.
double ulps(float got, double want) {
  const uint64_t biased = std::bit_cast<uint32_t>(static_cast<float>(want)) >> 23 & 255;  // a normal number
  const auto places = std::bit_cast<double>((uint64_t{1023 + 127 + 23} - biased) << 52);
  return std::fabs(static_cast<double>(got) - want) * places;
}

struct Bound {
  Function function;
  const char* name;
  double least, most;  // arguments
  double ulps;
};
// Where the result or e^-x would leave the normal numbers, bounds end.
constexpr Bound kBounds[] = {
    {Function::kExp, "exp", -87.33, 88.72, 1.1},
    {Function::kTanh, "tanh", -100, 100, 2},
    {Function::kSigmoid, "sigmoid", -87, 100, 4},
    {Function::kSilu, "silu", -87, 100, 4},
    {Function::kGelu, "gelu", -12.5, 100, 2},
    {Function::kSoftplus, "softplus", -87, 100, 4},
    {Function::kLogSigmoid, "log_sigmoid", -100, 87, 4},
};

float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

struct Worst {
  double ulps = 0;
  float at = 0;
  bool any_nan = false;
  void take(const Worst& other) {
    any_nan |= other.any_nan;
    if (other.ulps > ulps) ulps = other.ulps, at = other.at;
  }
};

void compare(Function function, const std::vector<float>& x, std::span<const CpuTarget> targets,
             std::vector<Worst>& found) {
  std::vector<double> want(x.size());
  for (size_t i = 0; i < x.size(); ++i) want[i] = exact(function, static_cast<double>(x[i]));
  std::vector<float> y(x.size());
  for (size_t t = 0; t < targets.size(); ++t) {
    LINNET_CHOOSE(targets[t], apply)(function, x.data(), static_cast<int64_t>(x.size()), y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const bool normal = std::fabs(want[i]) >= static_cast<double>(std::numeric_limits<float>::min());
      found[t].take({normal ? ulps(y[i], want[i]) : 0, x[i], std::isnan(y[i])});
    }
  }
}

}  // namespace

TEST_CASE("elementary functions are within their stated errors on every target") {
  const bool every = std::getenv("LINNET_EVERY_FLOAT") != nullptr;
  const uint64_t step = every ? 1 : 4099;
  const std::span<const CpuTarget> targets = supported_targets();
  for (const Bound& bound : kBounds) {
    // Double precision is what takes time: once for all targets, and with all floats on every processor.
    const uint64_t parts = every ? std::max(1u, std::thread::hardware_concurrency()) : 1;
    std::vector<std::vector<Worst>> found(parts, std::vector<Worst>(targets.size()));
    const auto search = [&](uint64_t part) {
      const uint64_t end = (uint64_t{1} << 32) * (part + 1) / parts;
      std::vector<float> x;
      for (uint64_t bits = (uint64_t{1} << 32) * part / parts; bits < end; bits += step) {
        const float v = as_float(static_cast<uint32_t>(bits));
        if (static_cast<double>(v) >= bound.least && static_cast<double>(v) <= bound.most) x.push_back(v);
        if (x.size() < 4096 && bits + step < end) continue;
        compare(bound.function, x, targets, found[part]);
        x.clear();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (uint64_t part = 1; part < parts; ++part) threads.emplace_back(search, part);
      search(0);
    }
    for (size_t t = 0; t < targets.size(); ++t) {
      Worst worst;
      for (const auto& of_part : found) worst.take(of_part[t]);
      const std::string text =
          strf("{} {}: {} ULP at {}", target_name(targets[t]), bound.name, worst.ulps, worst.at);
      INFO(text);
      // The one that a missing fused multiply-add takes over its bound.
      const bool apart = bound.function == Function::kGelu && targets[t] == CpuTarget::kPortable;
      testing::check_below(strf("{}, {}", target_name(targets[t]), bound.name), worst.ulps,
                           apart ? 2.2 : bound.ulps);
      CHECK(worst.ulps > 0);
      CHECK_FALSE(worst.any_nan);
      if (every) MESSAGE(text);
    }
  }
}

TEST_CASE("elementary functions at infinities and NaN") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const CpuTarget target : supported_targets()) {
    const auto function = LINNET_CHOOSE(target, apply);
    const auto of = [&](Function f, float x) {
      float y = 0;
      function(f, &x, 1, &y);
      return y;
    };
    CHECK(of(Function::kExp, infinity) == infinity);
    CHECK(of(Function::kExp, 89.0f) == infinity);
    CHECK(of(Function::kExp, -infinity) == 0.0f);
    CHECK(of(Function::kExp, -104.0f) == 0.0f);
    CHECK(of(Function::kTanh, infinity) == 1.0f);
    CHECK(of(Function::kTanh, -infinity) == -1.0f);
    CHECK(of(Function::kSigmoid, infinity) == 1.0f);
    CHECK(of(Function::kSigmoid, -infinity) == 0.0f);
    CHECK(of(Function::kGelu, infinity) == infinity);
    CHECK(of(Function::kGelu, -infinity) == 0.0f);
    CHECK(of(Function::kSoftplus, infinity) == infinity);
    CHECK(of(Function::kSoftplus, -infinity) == 0.0f);
    for (const Bound& bound : kBounds) CHECK(std::isnan(of(bound.function, std::nanf(""))));
  }
}

}  // namespace linnet::cpu
#endif
