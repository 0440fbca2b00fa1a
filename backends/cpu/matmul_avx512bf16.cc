#include "backends/cpu/matmul_targets.h"

// The build gives this file its instruction set (targets.cmake); without it the table is empty.
#if defined(__x86_64__) && defined(__AVX512BF16__)
#include "backends/cpu/matmul_kernels_inl.h"

namespace linnet::cpu {
constinit const MatmulKernels kMatmulAvx512Bf16 = make_kernels(CpuTarget::kAvx512Bf16);
}
#elif defined(__x86_64__)
namespace linnet::cpu {
constinit const MatmulKernels kMatmulAvx512Bf16{};
}
#endif
