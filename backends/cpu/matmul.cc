#include "backends/cpu/matmul.h"

#include "backends/cpu/matmul_targets.h"

namespace linnet::cpu {

const MatmulKernels& matmul_kernels(CpuTarget target) {
  switch (target) {
#define LINNET_CPU_TARGET(name, text, arch, ...) \
  LINNET_ON_##arch(case CpuTarget::k##name : return kMatmul##name;)
#include "backends/cpu/targets.def"
    default:  // of another architecture
      return kMatmulPortable;
  }
}

}  // namespace linnet::cpu
