// What every op file of the CPU backend shares: the context it sees and the choice of an instruction set.
//
// Each op is one file, cpu/<op>.cc, whose vector code is compiled once per Highway target and which defines
//   Kernel kernel_<op>(CpuTarget target);
// Rules of all kernels here: the result does not depend, bit for bit, on the number of threads (a loop is cut
// between elements, rows, panels or heads, never inside a sum, or the cut is a fixed one), and a NaN in the
// input is never turned into a plausible number.
#pragma once

#include <type_traits>

#include "backends/cpu/matmul.h"
#include "backends/cpu/targets.h"
#include "backends/host/kernel.h"
#include "runtime/core/align.h"

namespace linnet::cpu {

using host::Kernel;
using host::KernelContext;
using host::Tensor;

// What KernelContext::backend points to.
struct CpuConstants {
  CpuTarget target{};
  const MatmulKernels* matmul = nullptr;
};
inline const CpuConstants& constants(const KernelContext& context) {
  return *static_cast<const CpuConstants*>(context.backend);
}

#define LINNET_OP(pascal, snake, equation) Kernel kernel_##snake(CpuTarget target);
#include "runtime/graph/ops.def"
#undef LINNET_OP

// Of the versions of one function the one for `target`, as targets.def says: Highway has no versions for the
// dot product instructions that tell kAvxVnni from kAvx2; only the matrix kernels use those.
template <typename F>
F choose(CpuTarget target, F base, std::type_identity_t<F> avx2, std::type_identity_t<F> avx512) {
  const F version_Base = base, version_Avx2 = avx2 ? avx2 : base, version_Avx3 = avx512 ? avx512 : base;
  switch (target) {
#define LINNET_CPU_TARGET(name, text, arch, of, highway, ...) \
  case CpuTarget::k##name:                                    \
    return version_##highway;
#include "backends/cpu/targets.def"
  }
  return base;
}
// LINNET_CHOOSE(target, f): f was defined in namespace linnet::cpu::HWY_NAMESPACE; used under #if HWY_ONCE.
#define LINNET_CHOOSE(target, function)                                                      \
  ::linnet::cpu::choose((target), &HWY_STATIC_DISPATCH(function), HWY_CHOOSE_AVX2(function), \
                        HWY_CHOOSE_AVX3(function))

// Scratch goes in whole cache lines.
constexpr size_t align_up(size_t bytes) { return linnet::align_up(bytes, 64); }
constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace linnet::cpu
