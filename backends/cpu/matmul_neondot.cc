#include "backends/cpu/matmul_targets.h"

// The build gives this file its instruction set (targets.cmake); elsewhere it is empty.
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "backends/cpu/matmul_kernels_inl.h"

namespace linnet::cpu {
constinit const MatmulKernels kMatmulNeonDot = make_kernels(CpuTarget::kNeonDot);
}
#endif
