// The tables that the per-instruction-set files define; targets.cmake says which are compiled where.
#pragma once

#include "backends/cpu/matmul.h"

namespace linnet::cpu {

extern const MatmulKernels kMatmulPortable;
#if defined(__x86_64__)
extern const MatmulKernels kMatmulAvx2;
extern const MatmulKernels kMatmulAvxVnni;
extern const MatmulKernels kMatmulAvx512;
extern const MatmulKernels kMatmulAvx512Vnni;
extern const MatmulKernels kMatmulAvx512Bf16;
#elif defined(__aarch64__)
extern const MatmulKernels kMatmulNeon;
extern const MatmulKernels kMatmulNeonDot;
extern const MatmulKernels kMatmulNeonI8mm;
#endif

}  // namespace linnet::cpu
