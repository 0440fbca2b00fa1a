#include "backends/cpu/matmul.h"

#include "backends/cpu/matmul_targets.h"

namespace linnet::cpu {

const MatmulKernels& matmul_kernels(CpuTarget target) {
  switch (target) {
#if defined(__x86_64__)
    case CpuTarget::kAvx2:
      return kMatmulAvx2;
    case CpuTarget::kAvxVnni:
      return kMatmulAvxVnni;
    case CpuTarget::kAvx512:
      return kMatmulAvx512;
    case CpuTarget::kAvx512Vnni:
      return kMatmulAvx512Vnni;
    case CpuTarget::kAvx512Bf16:
      return kMatmulAvx512Bf16;
#elif defined(__aarch64__)
    case CpuTarget::kNeon:
      return kMatmulNeon;
    case CpuTarget::kNeonDot:
      return kMatmulNeonDot;
    case CpuTarget::kNeonI8mm:
      return kMatmulNeonI8mm;
#endif
    default:
      return kMatmulPortable;
  }
}

}  // namespace linnet::cpu
