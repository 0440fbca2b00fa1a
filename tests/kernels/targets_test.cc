#include "backends/cpu/targets.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "backends/cpu/matmul.h"

namespace linnet::cpu {

TEST_CASE("every supported target has its own kernels and is found by its name") {
  REQUIRE_FALSE(supported_targets().empty());
  CHECK(supported_targets().front() == CpuTarget::kPortable);
  CHECK(supported_targets().back() == detect_best_target());
  for (const CpuTarget target : supported_targets()) {
    CHECK(matmul_kernels(target).target == target);
    const auto found = target_from_name(target_name(target));
    REQUIRE(found.has_value());
    CHECK(*found == target);
  }
}

TEST_CASE("a target this machine lacks is refused, naming what there is") {
  for (size_t i = 0; i < kCpuTargetCount; ++i) {
    const auto target = static_cast<CpuTarget>(i);
    bool have = false;
    for (const CpuTarget t : supported_targets()) have |= t == target;
    const auto found = target_from_name(target_name(target));
    CHECK(found.has_value() == have);
    if (have) continue;
    CHECK(found.error().code == ErrorCode::kUnsupported);
    CHECK(found.error().message.find("portable") != std::string::npos);
  }
  const auto unknown = target_from_name("avx3");
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().code == ErrorCode::kInvalidArgument);
  CHECK(unknown.error().message.find("avx2") != std::string::npos);
}

TEST_CASE("the environment forces a target") {
  const char* before = std::getenv("LINNET_CPU_TARGET");
  const std::string saved = before == nullptr ? "" : before;
  setenv("LINNET_CPU_TARGET", "portable", 1);
  CHECK(target_from_environment() == CpuTarget::kPortable);
  setenv("LINNET_CPU_TARGET", "sse9", 1);
  const auto refused = target_from_environment();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message.find("LINNET_CPU_TARGET") != std::string::npos);
  setenv("LINNET_CPU_TARGET", "", 1);
  CHECK(target_from_environment() == detect_best_target());
  if (before == nullptr)
    unsetenv("LINNET_CPU_TARGET");
  else
    setenv("LINNET_CPU_TARGET", saved.c_str(), 1);
}

}  // namespace linnet::cpu
