// The tables that the per-instruction-set files define: kMatmulAvx2 and so on, for this build's architecture.
// What the build left out (targets.cmake) is an empty one.
#pragma once

#include "backends/cpu/matmul.h"

namespace linnet::cpu {

#define LINNET_CPU_TARGET(name, text, arch, ...) LINNET_ON_##arch(extern const MatmulKernels kMatmul##name;)
#include "backends/cpu/targets.def"

}  // namespace linnet::cpu
