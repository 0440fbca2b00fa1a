// Included before hwy/foreach_target.h: which of Highway's targets our files are compiled for. The baseline,
// AVX2 and AVX-512 on x86, NEON on AArch64; the ones between would cost compile time and give nothing.
//
// An op file's head is:
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "backends/cpu/<op>.cc"
//   #include "backends/cpu/highway_targets.h"
//                                             <- empty lines, so that clang-format keeps the order
//   #include <hwy/foreach_target.h>
//   #include <hwy/highway.h>
//
//   #include "backends/cpu/vector_math_inl.h"
//   HWY_BEFORE_NAMESPACE();
//   namespace linnet::cpu::HWY_NAMESPACE { ... void run(const KernelContext&) ... }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   namespace linnet::cpu { Kernel kernel_<op>(CpuTarget t) { return {LINNET_CHOOSE(t, run), nullptr}; } }
//   #endif
// Inside the target namespace use no standard containers or algorithms: an inline function compiled for
// AVX-512 can be the copy the linker keeps for everybody. Lambdas carry HWY_ATTR.
#pragma once

#include <hwy/base.h>

#ifdef LINNET_WITHOUT_AVX3  // targets.cmake: no target of targets.def needs it
#define LINNET_LEFT_OUT HWY_AVX3
#else
#define LINNET_LEFT_OUT 0
#endif
// Highway 1.1 and later (which define HWY_MAJOR in base.h) know more targets.
#ifdef HWY_MAJOR
#define HWY_DISABLED_TARGETS                                                                       \
  (LINNET_LEFT_OUT | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_SVE | \
   HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_NEON_BF16)
#else
#define HWY_DISABLED_TARGETS \
  (LINNET_LEFT_OUT | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif

#include "backends/cpu/kernels.h"
