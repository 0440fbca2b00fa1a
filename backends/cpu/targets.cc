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
    "portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "neon", "neondot", "neoni8mm"};

// Every feature that targets.cmake lets the compiler use, whether or not a kernel asks for it by name.
bool machine_has(CpuTarget target) {
  if (target == CpuTarget::kPortable) return true;
#if defined(__x86_64__)
  // What the operating system must save (XGETBV) is part of these answers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("pclmul") &&
                    __builtin_cpu_supports("aes");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  switch (target) {
    case CpuTarget::kAvx2:
      return avx2;
    case CpuTarget::kAvxVnni:
      return avx2 && __builtin_cpu_supports("avxvnni");
    case CpuTarget::kAvx512:
      return avx512;
    case CpuTarget::kAvx512Vnni:
      return avx512 && __builtin_cpu_supports("avx512vnni");
    case CpuTarget::kAvx512Bf16:
      return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    default:
      return false;
  }
#elif defined(__aarch64__)
  if (target == CpuTarget::kNeon) return true;
#if defined(__linux__)
  const unsigned long features = getauxval(AT_HWCAP);
  const bool dot = (features & HWCAP_ASIMDDP) != 0 && (features & HWCAP_ASIMDHP) != 0;
  if (target == CpuTarget::kNeonDot) return dot;
  const unsigned long more = getauxval(AT_HWCAP2);
  return target == CpuTarget::kNeonI8mm && dot && (more & HWCAP2_I8MM) != 0 && (more & HWCAP2_BF16) != 0;
#else
  return target == CpuTarget::kNeonDot;  // every processor of Apple's that runs AArch64 desktop systems
#endif
#else
  return false;
#endif
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
