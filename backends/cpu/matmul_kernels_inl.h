// The table of kernels of one instruction set, for the file that the build compiles with its flags.
#pragma once

#include "backends/cpu/matmul_float_inl.h"
#include "backends/cpu/matmul_probes_inl.h"
#include "backends/cpu/matmul_quantized_inl.h"
#include "backends/cpu/quantize_activations_inl.h"
#if LINNET_PLAIN_AVX2
#include "backends/cpu/matmul_unpacked_inl.h"
#endif

namespace linnet::cpu {
namespace {

// Tile sizes: rows of x times panels.
#if LINNET_WIDE  // 32 registers of 16 rows
inline constexpr size_t kQuantizedRows = 6, kQuantizedPanels = 2;
inline constexpr size_t kFloatRows = 12, kFloatPanels = 2;
inline constexpr size_t kHalfRows = 12, kHalfPanels = 1;
inline constexpr size_t kPairRows = 6, kPairPanels = 2;
#elif HWY_TARGET == HWY_AVX2  // 16 registers of 8 rows
inline constexpr size_t kQuantizedRows = kPartsTogether ? 4 : 8, kQuantizedPanels = 1;
inline constexpr size_t kFloatRows = 6, kFloatPanels = 1;
inline constexpr size_t kHalfRows = 3, kHalfPanels = 1;
#else                         // NEON: 32 registers of 4 rows
inline constexpr size_t kQuantizedRows = LINNET_I8MM ? 4 : 3, kQuantizedPanels = 1;
inline constexpr size_t kFloatRows = 6, kFloatPanels = 1;
inline constexpr size_t kHalfRows = 3, kHalfPanels = 1;
inline constexpr size_t kPairRows = 3, kPairPanels = 1;
#endif

template <DType Type>
#if LINNET_PLAIN_AVX2
constexpr MatmulFunction kQuantizedMatmul = &UnpackedTile<Block<Type>>::template matmul<kQuantizedRows>;
#else
constexpr MatmulFunction kQuantizedMatmul =
    &matmul<QuantizedTile<Block<Type>>, kQuantizedRows, kQuantizedPanels>;
#endif

constexpr MatmulKernels make_kernels(CpuTarget target) {
  MatmulKernels kernels;
  kernels.target = target;
  kernels.quantize_rows = &quantize_rows;
  const auto set = [&](DType dtype, MatmulFunction function) {
    kernels.matmul[static_cast<size_t>(dtype)] = function;
  };
  set(DType::kF32, &matmul<TileF32, kFloatRows, kFloatPanels>);
  set(DType::kF16, &matmul<TileHalf<LoadF16>, kHalfRows, kHalfPanels>);
#if LINNET_BF16_PAIRS
  set(DType::kBF16, &matmul_bf16_pairs<kPairRows, kPairPanels>);
  kernels.rounds_to_bf16 = true;
#else
  set(DType::kBF16, &matmul<TileHalf<LoadBF16>, kHalfRows, kHalfPanels>);
#endif
#define LINNET_BLOCKS(pascal, ...) set(DType::k##pascal, kQuantizedMatmul<DType::k##pascal>);
#include "runtime/core/dtypes.def"
  kernels.probes = {&probe_read, &probe_int8, &probe_f32};
  return kernels;
}

}  // namespace
}  // namespace linnet::cpu
