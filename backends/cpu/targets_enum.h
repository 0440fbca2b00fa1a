// The enumeration alone, for the files that each instruction set's flags compile: they must not instantiate
// library templates, whose code the linker could then hand to processors that lack the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::cpu {

// The rows of targets.def, slowest first.
enum class CpuTarget : uint8_t {
#define LINNET_CPU_TARGET(name, ...) k##name,
#include "backends/cpu/targets.def"
};
inline constexpr size_t kCpuTargetCount = 0
#define LINNET_CPU_TARGET(...) +1
#include "backends/cpu/targets.def"
    ;

}  // namespace linnet::cpu

// LINNET_ON_X86(code), LINNET_ON_Arm64(code), LINNET_ON_Any(code): the code where this build is for that
// architecture, the `arch` of targets.def.
#define LINNET_ON_Any(...) __VA_ARGS__
#if defined(__x86_64__)
#define LINNET_ON_X86(...) __VA_ARGS__
#else
#define LINNET_ON_X86(...)
#endif
#if defined(__aarch64__)
#define LINNET_ON_Arm64(...) __VA_ARGS__
#else
#define LINNET_ON_Arm64(...)
#endif
