#include "backends/cpu/kernels.h"

namespace linnet::cpu {
Kernel kernel_window_linear_attention(CpuTarget) { return {}; }
}  // namespace linnet::cpu
