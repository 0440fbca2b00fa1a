// The kernels for processors without a file of their own: plain loops over the 16 rows of a panel, which a
// compiler turns into whatever vectors the baseline has. Same orders of additions as the others, but products
// and sums round separately where the baseline has no fused multiply-add.
#include <bit>
#include <cmath>
#include <cstring>

#include "backends/cpu/matmul_targets.h"
#include "backends/cpu/refined_list.h"
#include "format/panel_layout.h"

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
  int32_t sum = 0;
  for (size_t i = 0; i < 32; ++i) {
    const int32_t q = usable && i < count ? round_to_int(x[i] * inverse) : 0;
    out.q[i] = static_cast<int8_t>(q);
    sum += q;
  }
  out.d = (usable ? largest / 127.0f : 0.0f) + poison;
  out.sum = out.d * static_cast<float>(sum);
  out.bias128 = -128 * sum;
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

// The integer dot products of a group, less what the codes' zero adds to them.
template <DType Type>
void dot_group(const std::byte* block, const ActivationGroup& x, int32_t (&dot)[kPanel]) {
  constexpr DTypeInfo kInfo = info_of(Type);
  constexpr size_t kCodes = format::panel_block(Type).codes;
  static_assert(kInfo.codes == CodeKind::kSigned ? kInfo.bits == 8 && kInfo.zero == 0 : kInfo.bits == 4,
                "the dot product of this kind of codes is to be written");
  if constexpr (kInfo.bits == 8) {
    const auto* w = reinterpret_cast<const int8_t*>(block + kCodes);
    for (int32_t& d : dot) d = 0;
    for (size_t i = 0; i < 8; ++i)
      for (size_t r = 0; r < kPanel; ++r)
        for (size_t j = 0; j < 4; ++j) dot[r] += w[(i * kPanel + r) * 4 + j] * x.q[4 * i + j];
  } else {
    const auto* w = reinterpret_cast<const uint8_t*>(block + kCodes);
    for (int32_t& d : dot) d = x.bias8 / 8 * kInfo.zero;
    for (size_t i = 0; i < 4; ++i)
      for (size_t r = 0; r < kPanel; ++r)
        for (size_t j = 0; j < 4; ++j) {
          const int pair = w[(i * kPanel + r) * 4 + j];
          dot[r] += (pair & 15) * x.q[4 * i + j] + (pair >> 4) * x.q[16 + 4 * i + j];
        }
  }
}

template <DType Type>
void add_group(const std::byte* block, const ActivationGroup& group, float (&sum)[kPanel]) {
  constexpr format::PanelBlock kAt = format::panel_block(Type);
  static_assert(scale_bytes(Type) == 2 && (minimum_bytes(Type) == 2 || !has_minimum(Type)),
                "the products of this kind of scales are to be written");
  int32_t dot[kPanel];
  dot_group<Type>(block, group, dot);
  for (size_t r = 0; r < kPanel; ++r) {
    sum[r] += static_cast<float>(dot[r]) * (f16_to_f32(load<uint16_t>(block + kAt.scales + 2 * r)) * group.d);
    if constexpr (has_minimum(Type))
      sum[r] += f16_to_f32(load<uint16_t>(block + kAt.minima + 2 * r)) * group.sum;
  }
}

template <DType Type>
void quantized_row(const std::byte* panel, const std::byte* x, int64_t k, Refine refine,
                   float (&sum)[kPanel]) {
  constexpr size_t kBlock = format::panel_block_bytes(Type);
  const auto* group = reinterpret_cast<const ActivationGroup*>(x);
  const size_t groups = group_count(k);
  for (size_t g = 0; g < groups; ++g) add_group<Type>(panel + g * kBlock, group[g], sum);
  if (refine == Refine::kNone) return;
  const RefinedList list(const_cast<ActivationGroup*>(group + groups), refined_capacity(k, refine));
  for (int32_t i = 0; i < list.count(); ++i)
    add_group<Type>(panel + static_cast<size_t>(list.index(i)) * kBlock, list.second(i), sum);
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
size_t bytes_of_panel(int64_t k) {
  const auto columns = static_cast<size_t>(k);
  if constexpr (Type == DType::kF32) return columns * kPanel * 4;
  if constexpr (Type == DType::kF16 || Type == DType::kBF16) return (columns + 1) / 2 * kPanel * 4;
  return group_count(k) * format::panel_block_bytes(Type);
}

template <DType Type>
void matmul(const MatmulArgs& args, int64_t panel_begin, int64_t panel_end) {
  const size_t segment_bytes = bytes_of_panel<Type>(args.k);
  const size_t stride = segment_bytes * static_cast<size_t>(args.segments);
  for (auto panel = static_cast<size_t>(panel_begin); panel < static_cast<size_t>(panel_end); ++panel)
    for (size_t t = 0; t < static_cast<size_t>(args.rows); ++t) {
      float sum[kPanel] = {};
      for (size_t s = 0; s < static_cast<size_t>(args.segments); ++s) {
        const void* segment = args.x_segments ? args.x_segments[s] : args.x;
        const auto* x = static_cast<const std::byte*>(segment) + t * args.x_stride;
        const std::byte* weights = args.weights + panel * stride + s * segment_bytes;
        if constexpr (is_quantized(Type))
          quantized_row<Type>(weights, x, args.k, args.refine, sum);
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
