// The kernels for processors without a file of their own: plain loops over the 16 rows of a panel, which a
// compiler turns into whatever vectors the baseline has. Same orders of additions as the others, but products
// and sums round separately where the baseline has no fused multiply-add.
#include <bit>
#include <cmath>
#include <cstring>

#include "backends/cpu/matmul_targets.h"
#include "backends/cpu/refined_list.h"
#include "format/panel.h"

namespace linnet::cpu {
namespace {

constexpr size_t kPanel = 16;
constexpr float kSmallestMagnitude = 0x1p-100f;

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Nearest even for |x| < 2^22, on the default rounding mode, in one addition.
int32_t round_to_int(float x) { return std::bit_cast<int32_t>(x + 12582912.0f) - 0x4B400000; }

void quantize_group(const float* x, size_t count, ActivationGroup& out) {
  float largest = 0, poison = 0;
  for (size_t i = 0; i < count; ++i) {
    largest = std::abs(x[i]) > largest ? std::abs(x[i]) : largest;
    poison += x[i] * 0.0f;
  }
  const bool usable = largest >= kSmallestMagnitude && poison == 0.0f;
  const float inverse = usable ? 127.0f / largest : 0.0f;
  int32_t halves[2] = {};
  for (size_t i = 0; i < 32; ++i) {
    const int32_t q = usable && i < count ? round_to_int(x[i] * inverse) : 0;
    out.q[i] = static_cast<int8_t>(q);
    halves[i / 16] += q;
  }
  const int32_t sum = halves[0] + halves[1];
  for (size_t h = 0; h < 2; ++h) out.half_sum[h] = static_cast<int16_t>(halves[h]);
  out.d = (usable ? largest / 127.0f : 0.0f) + poison;
  out.sum = out.d * static_cast<float>(sum);
  out.bias8 = -8 * sum;
}

void quantize_rows(const float* x, int64_t rows, int64_t k, int64_t x_stride, Refine refine, std::byte* out) {
  const size_t groups = group_count(k);
  const auto count = [&](size_t g) {
    const size_t left = static_cast<size_t>(k) - g * kGroupSize;
    return left < kGroupSize ? left : size_t{kGroupSize};
  };
  for (int64_t r = 0; r < rows; ++r, x += x_stride, out += quantized_row_bytes(k, refine)) {
    auto* group = reinterpret_cast<ActivationGroup*>(out);
    for (size_t g = 0; g < groups; ++g) quantize_group(x + g * kGroupSize, count(g), group[g]);
    if (refine == Refine::kNone) continue;
    RefinedList list(group + groups, refined_capacity(k, refine));
    list.choose(group, groups);
    for (int32_t i = 0; i < list.count(); ++i) {
      const auto g = static_cast<size_t>(list.index(i));
      float remainder[kGroupSize] = {};
      for (size_t j = 0; j < count(g); ++j)
        remainder[j] = std::fma(-group[g].d, static_cast<float>(group[g].q[j]), x[g * kGroupSize + j]);
      quantize_group(remainder, kGroupSize, list.second(i));
    }
  }
}

// The group's numbers are taken apart by the one function that knows them; speed is not what this file is
// for.
template <DType Type>
void add_group(const std::byte* panel, size_t block, const ActivationGroup& x, float (&sum)[kPanel]) {
  constexpr size_t kHalves = scales_of_32(Type), kSize = kGroupSize / kHalves;
  for (size_t r = 0; r < kPanel; ++r) {
    const format::BlockGroup w =
        format::panel_group(Type, panel, static_cast<int64_t>(r), static_cast<int64_t>(block));
    for (size_t h = 0; h < kHalves; ++h) {
      int32_t dot = 0;
      for (size_t i = h * kSize; i < (h + 1) * kSize; ++i)
        dot += static_cast<int32_t>(format::step_of(Type, w.codes[i])) * x.q[i];
      sum[r] += static_cast<float>(dot) * (format::scale_of(Type, w, h) * x.d);
      if constexpr (has_minimum(Type))
        sum[r] +=
            format::minimum_of(Type, w, h) * (kHalves == 1 ? x.sum : x.d * static_cast<float>(x.half_sum[h]));
    }
  }
}

template <DType Type>
void quantized_row(const std::byte* panel, size_t first, const std::byte* x, int64_t k, Refine refine,
                   float (&sum)[kPanel]) {
  const auto* group = reinterpret_cast<const ActivationGroup*>(x);
  const size_t groups = group_count(k);
  for (size_t g = 0; g < groups; ++g) add_group<Type>(panel, first + g, group[g], sum);
  if (refine == Refine::kNone) return;
  const RefinedList list(const_cast<ActivationGroup*>(group + groups), refined_capacity(k, refine));
  for (int32_t i = 0; i < list.count(); ++i)
    add_group<Type>(panel, static_cast<size_t>(list.index(i)), list.second(i), sum);
}

template <DType Type>
void float_row(const std::byte* panel, const std::byte* x_bytes, int64_t k, float (&sum)[kPanel]) {
  const auto columns = static_cast<size_t>(k);
  const auto* x = reinterpret_cast<const float*>(x_bytes);
  if constexpr (Type == DType::kF32) {
    const auto* w = reinterpret_cast<const float*>(panel);
    for (size_t i = 0; i < columns; ++i)
      for (size_t r = 0; r < kPanel; ++r) sum[r] += w[i * kPanel + r] * x[i];
  } else {
    float odd[kPanel] = {};
    for (size_t i = 0; i < columns; ++i) {
      float(&to)[kPanel] = i % 2 == 0 ? sum : odd;
      const std::byte* w = panel + i / 2 * kPanel * 4 + i % 2 * 2;
      for (size_t r = 0; r < kPanel; ++r) {
        const auto bits = load<uint16_t>(w + r * 4);
        to[r] += (Type == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits)) * x[i];
      }
    }
    for (size_t r = 0; r < kPanel; ++r) sum[r] += odd[r];
  }
}

template <DType Type>
void matmul(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end) {
  const auto segments = static_cast<size_t>(args.segments);
  const size_t segment_bytes = is_quantized(Type) ? 0 : format::panel_bytes(Type, args.k);
  const size_t stride =
      is_quantized(Type) ? format::panel_bytes(Type, args.k * args.segments) : segment_bytes * segments;
  for (auto panel = static_cast<size_t>(panel_begin); panel < static_cast<size_t>(panel_end); ++panel)
    for (size_t t = 0; t < static_cast<size_t>(args.rows); ++t) {
      float sum[kPanel] = {};
      for (size_t s = 0; s < segments; ++s) {
        const void* segment = args.x_segments ? args.x_segments[s] : args.x;
        const auto* x = static_cast<const std::byte*>(segment) + t * args.x_stride;
        const std::byte* weights = args.weights + panel * stride + s * segment_bytes;
        if constexpr (is_quantized(Type))
          quantized_row<Type>(weights, s * group_count(args.k), x, args.k, args.refine, sum);
        else
          float_row<Type>(weights, x, args.k, sum);
      }
      const size_t column = panel * kPanel;
      const size_t left = static_cast<size_t>(args.n) - column;
      std::memcpy(args.y + t * static_cast<size_t>(args.y_stride) + column, sum,
                  (left < kPanel ? left : kPanel) * sizeof(float));
    }
}

}  // namespace

constinit const MatmulKernels kMatmulPortable = [] {
  MatmulKernels kernels{CpuTarget::kPortable, &quantize_rows, false, {}, {}};
#define LINNET_PLAIN(pascal, ...)                           \
  if constexpr (can_be_used_as(DType::k##pascal, kWeights)) \
    kernels.matmul[static_cast<size_t>(DType::k##pascal)] = &matmul<DType::k##pascal>;
#define LINNET_BLOCKS LINNET_PLAIN
#include "runtime/core/dtypes.def"
  return kernels;
}();

}  // namespace linnet::cpu
