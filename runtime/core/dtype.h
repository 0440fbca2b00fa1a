// Element types and the block formats of quantised weights, as runtime/core/dtypes.def lists them.
//
// A *group* is 32 consecutive inputs (columns) of one output row. Group size 32 is fixed: at 4 bits it is
// clearly better than 128 and it is what GGUF's Q8_0, Q4_0 and Q4_1 use, so those import without loss.
//
// Included by the files that each instruction set's flags compile (backends/cpu): what they use of this at
// run time would be compiled with those flags for everybody, so they use it in constant expressions only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace linnet {

// Values are stored in model files: never renumber, only append.
enum class DType : uint8_t {
#define LINNET_PLAIN(pascal, text, number, ...) k##pascal = number,
#define LINNET_BLOCKS(pascal, text, number, ...) k##pascal = number,
#include "runtime/core/dtypes.def"
};
inline constexpr int64_t kGroupSize = 32;

// How a code of a block format is read.
enum class CodeKind : uint8_t { kNone, kSigned, kUnsigned };
// How the scale or the minimum of a group is stored; kNone: there is none.
enum class FactorKind : uint8_t { kNone, kF16 };
constexpr size_t factor_bits(FactorKind kind) { return kind == FactorKind::kF16 ? 16 : 0; }

// What a type can be asked for; DTypeInfo::uses has one bit for each.
enum DTypeUse : uint8_t { kWeights = 1, kCaches = 2, kStates = 4 };

struct DTypeInfo {
  std::string_view name;  // lower case, as in files and on the command line
  size_t bits;            // of an element or a code
  CodeKind codes;         // kNone: elements that stand alone
  int zero;               // the code that means 0, without a minimum
  int64_t group;          // values with one scale
  FactorKind scale, minimum;
  unsigned uses;
};
inline constexpr DTypeInfo kDTypes[] = {
#define LINNET_PLAIN(pascal, text, number, bits, uses) \
  {#text, bits, CodeKind::kNone, 0, 1, FactorKind::kNone, FactorKind::kNone, uses},
#define LINNET_BLOCKS(pascal, text, number, bits, codes, zero, group, scale, minimum, uses) \
  {#text, bits, CodeKind::codes, zero, group, FactorKind::scale, FactorKind::minimum, uses},
#include "runtime/core/dtypes.def"
};
inline constexpr int kDTypeCount = static_cast<int>(sizeof(kDTypes) / sizeof(kDTypes[0]));
#define LINNET_PLAIN(pascal, text, number, ...) \
  static_assert(kDTypes[number].name == #text, "dtypes.def: the rows are in the order of their numbers");
#define LINNET_BLOCKS LINNET_PLAIN
#include "runtime/core/dtypes.def"

constexpr bool is_valid(DType dtype) { return static_cast<uint8_t>(dtype) < kDTypeCount; }
// `dtype` must be valid.
constexpr const DTypeInfo& info_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

// Lower-case name as in files and on the command line ("f32", "q4a"); "?" for a value out of range.
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);

// In blocks of codes.
constexpr bool is_quantized(DType dtype) {
  return is_valid(dtype) && info_of(dtype).codes != CodeKind::kNone;
}
constexpr bool has_minimum(DType dtype) {
  return is_valid(dtype) && info_of(dtype).minimum != FactorKind::kNone;
}
constexpr bool can_be_used_as(DType dtype, DTypeUse use) {
  return is_valid(dtype) && (info_of(dtype).uses & use) != 0;
}
// Bits of a code of a block format; 0 for other types.
constexpr size_t code_bits(DType dtype) { return is_quantized(dtype) ? info_of(dtype).bits : 0; }
// In blocks with codes of fewer bits than q8's.
constexpr bool is_coarse(DType dtype) {
  return is_quantized(dtype) && code_bits(dtype) < code_bits(DType::kQ8);
}
// Bytes of one element; 0 for block formats, which have no addressable element.
constexpr size_t element_bytes(DType dtype) {
  return is_valid(dtype) && !is_quantized(dtype) ? info_of(dtype).bits / 8 : 0;
}
// Bytes of the scales, or of the minima, of 32 values of a row; 0 where there are none.
constexpr size_t scale_bytes(DType dtype) {
  if (!is_quantized(dtype)) return 0;
  return static_cast<size_t>(kGroupSize / info_of(dtype).group) * factor_bits(info_of(dtype).scale) / 8;
}
constexpr size_t minimum_bytes(DType dtype) {
  if (!is_quantized(dtype)) return 0;
  return static_cast<size_t>(kGroupSize / info_of(dtype).group) * factor_bits(info_of(dtype).minimum) / 8;
}
// Bytes of one row's group of 32 values: scales, minima, codes.
constexpr size_t group_bytes(DType dtype) {
  if (!is_valid(dtype)) return 0;
  return scale_bytes(dtype) + minimum_bytes(dtype) +
         info_of(dtype).bits * static_cast<size_t>(kGroupSize) / 8;
}

// Types in the order of the table.
struct DTypeList {
  DType types[kDTypeCount] = {};
  size_t count = 0;
  constexpr void add(DType dtype) { types[count++] = dtype; }
  constexpr const DType* begin() const { return types; }
  constexpr const DType* end() const { return types + count; }
};
constexpr DTypeList types_used_as(DTypeUse use, bool blocks_only = false) {
  DTypeList list;
  for (int i = 0; i < kDTypeCount; ++i)
    if (const auto dtype = static_cast<DType>(i);
        can_be_used_as(dtype, use) && (is_quantized(dtype) || !blocks_only))
      list.add(dtype);
  return list;
}
inline constexpr DTypeList kWeightTypes = types_used_as(kWeights),
                           kBlockTypes = types_used_as(kWeights, true), kCacheTypes = types_used_as(kCaches),
                           kStateTypes = types_used_as(kStates);

// IEEE binary16 and bfloat16, round to nearest even; NaN stays NaN.
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
inline float bf16_to_f32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);

}  // namespace linnet
