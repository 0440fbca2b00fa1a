#include "backends/cpu/matmul_targets.h"

// The build gives this file its instruction set (targets.cmake); elsewhere it is empty.
#if defined(__x86_64__) && defined(__AVX2__)
#include "backends/cpu/matmul_kernels_inl.h"

namespace linnet::cpu {
constinit const MatmulKernels kMatmulAvx2 = make_kernels(CpuTarget::kAvx2);
}
#endif
