// The enumeration alone, for the files that each instruction set's flags compile: they must not instantiate
// library templates, whose code the linker could then hand to processors that lack the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::cpu {

enum class CpuTarget : uint8_t {
  kPortable,    // plain C++: any processor
  kAvx2,        // AVX2, FMA, F16C
  kAvxVnni,     // kAvx2 and the 256-bit VEX-coded int8 dot product
  kAvx512,      // AVX-512 F, BW, DQ, VL, CD
  kAvx512Vnni,  // kAvx512 and its int8 dot product
  kAvx512Bf16,  // kAvx512Vnni and the dot product of bf16 pairs
  kNeon,        // AArch64
  kNeonDot,     // kNeon and the int8 dot product (Armv8.2 FEAT_DotProd)
  kNeonI8mm,    // kNeonDot, the int8 matrix product and the bf16 dot product (Armv8.6 FEAT_I8MM, FEAT_BF16)
};
inline constexpr size_t kCpuTargetCount = 9;

}  // namespace linnet::cpu
