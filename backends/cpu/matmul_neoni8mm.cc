#include "backends/cpu/matmul_targets.h"

// The build gives this file its instruction set (targets.cmake); elsewhere it is empty.
#if defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)
#include "backends/cpu/matmul_kernels_inl.h"

namespace linnet::cpu {
constinit const MatmulKernels kMatmulNeonI8mm = make_kernels(CpuTarget::kNeonI8mm);
}
#endif
