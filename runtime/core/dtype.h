// Element types and the block formats of quantised weights.
//
// A *group* is 32 consecutive inputs (columns) of one output row. Group size 32 is fixed: at 4 bits it is
// clearly better than 128 and it is what GGUF's Q8_0, Q4_0 and Q4_1 use, so those import without loss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace linnet {

// Values are stored in model files: never renumber, only append.
enum class DType : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kQ8 = 3,   // value = d * q,     q in [-128, 127], d f16
  kQ4 = 4,   // value = d * (q-8), q in [0, 15],     d f16
  kQ4A = 5,  // value = d * q + m, q in [0, 15],     d, m f16
  kI32 = 6,
};
inline constexpr int kDTypeCount = 7;
inline constexpr int64_t kGroupSize = 32;

// Lower-case name as in files and on the command line ("f32", "q4a"); "?" for a value out of range.
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);

constexpr bool is_valid(DType dtype) { return static_cast<uint8_t>(dtype) < kDTypeCount; }
constexpr bool is_quantized(DType dtype) {
  return dtype == DType::kQ8 || dtype == DType::kQ4 || dtype == DType::kQ4A;
}
// Bytes of one element; 0 for block formats, which have no addressable element.
constexpr size_t element_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    default:
      return 0;
  }
}
// Bytes of one row's group of 32 values.
constexpr size_t group_bytes(DType dtype) {
  switch (dtype) {
    case DType::kQ8:
      return 34;
    case DType::kQ4:
      return 18;
    case DType::kQ4A:
      return 20;
    default:
      return element_bytes(dtype) * static_cast<size_t>(kGroupSize);
  }
}

// IEEE binary16 and bfloat16, round to nearest even; NaN stays NaN.
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
inline float bf16_to_f32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);

}  // namespace linnet
