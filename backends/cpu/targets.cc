#include "backends/cpu/targets.h"

#include <array>
#include <cstdlib>
#include <string>

#include "backends/cpu/matmul.h"
#include "runtime/core/strings.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace linnet::cpu {
namespace {

constexpr std::array<std::string_view, kCpuTargetCount> kNames = {
#define LINNET_CPU_TARGET(name, text, ...) #text,
#include "backends/cpu/targets.def"
};

// What the rows of targets.def ask of the machine; what the operating system must save (XGETBV) is part of
// the answers.
#define LINNET_HAS(feature) __builtin_cpu_supports(feature)
#if defined(__aarch64__) && defined(__linux__)
#define LINNET_ARM_DOT \
  ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 && (getauxval(AT_HWCAP) & HWCAP_ASIMDHP) != 0)
#define LINNET_ARM_I8MM \
  ((getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0 && (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0)
#else
#define LINNET_ARM_DOT true  // every processor of Apple's that runs AArch64 desktop systems
#define LINNET_ARM_I8MM false
#endif

bool machine_has(CpuTarget target) {
  switch (target) {
#define LINNET_CPU_TARGET(name, text, arch, base, highway, flags, limits, feature, machine)                  \
  LINNET_ON_##arch(case CpuTarget::k##name                                                                   \
                   : return (CpuTarget::k##name == CpuTarget::k##base || machine_has(CpuTarget::k##base)) && \
                            (machine);)
#include "backends/cpu/targets.def"
    default:  // of another architecture
      return false;
  }
}

// A build may leave instruction sets out (targets.cmake).
bool is_compiled(CpuTarget target) { return matmul_kernels(target).quantize_rows != nullptr; }

struct Supported {
  std::array<CpuTarget, kCpuTargetCount> list{};
  size_t count = 0;
};

Supported find_supported() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  Supported found;
  for (size_t i = 0; i < kCpuTargetCount; ++i)
    if (const auto target = static_cast<CpuTarget>(i); machine_has(target) && is_compiled(target))
      found.list[found.count++] = static_cast<CpuTarget>(i);
  return found;
}

template <typename Range>
std::string join(const Range& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

std::string supported_names() {
  std::string text;
  for (const CpuTarget target : supported_targets())
    text += (text.empty() ? "" : ", ") + std::string(target_name(target));
  return text;
}

}  // namespace

std::string_view target_name(CpuTarget target) {
  const auto index = static_cast<size_t>(target);
  return index < kCpuTargetCount ? kNames[index] : "?";
}

std::span<const CpuTarget> supported_targets() {
  static const Supported found = find_supported();
  return {found.list.data(), found.count};
}

CpuTarget detect_best_target() { return supported_targets().back(); }

Result<CpuTarget> target_from_name(std::string_view name) {
  for (size_t i = 0; i < kCpuTargetCount; ++i) {
    if (kNames[i] != name) continue;
    const auto target = static_cast<CpuTarget>(i);
    for (const CpuTarget have : supported_targets())
      if (have == target) return target;
    return fail(ErrorCode::kUnsupported,
                strf("this machine cannot run the CPU target '{}'; it has: {}", name, supported_names()));
  }
  return fail(ErrorCode::kInvalidArgument, strf("unknown CPU target '{}'; known: {}; this machine has: {}",
                                                name, join(kNames), supported_names()));
}

Result<CpuTarget> target_from_environment() {
  const char* name = std::getenv("LINNET_CPU_TARGET");
  if (name == nullptr || *name == '\0') return detect_best_target();
  auto target = target_from_name(name);
  if (!target)
    return fail(target.error().code,
                "LINNET_CPU_TARGET: " + target.error().message + "; unset it or choose one");
  return target;
}

}  // namespace linnet::cpu
