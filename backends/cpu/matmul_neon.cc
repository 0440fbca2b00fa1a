#include "backends/cpu/matmul_targets.h"

// The build gives this file its instruction set (targets.cmake); elsewhere it is empty.
#if defined(__aarch64__)
#include "backends/cpu/matmul_kernels_inl.h"

namespace linnet::cpu {
constinit const MatmulKernels kMatmulNeon = make_kernels(CpuTarget::kNeon);
}
#endif
