#include "backends/cpu/kernels.h"

namespace linnet::cpu {
Kernel kernel_resample(CpuTarget) { return {nullptr, nullptr}; }
}  // namespace linnet::cpu
