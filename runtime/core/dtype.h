// Element types and the block formats of quantised weights, as runtime/core/dtypes.def lists them.
//
// A *group* is 32 consecutive inputs (columns) of one output row; some formats give each half of it, 16
// inputs, a scale of its own.
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

// How a code of a block format is read. kE2M1: four-bit floats (OCP FP4), in halves; kIq4: ggml's 16 levels.
enum class CodeKind : uint8_t { kNone, kSigned, kUnsigned, kE2M1, kIq4 };
constexpr bool is_table(CodeKind kind) { return kind == CodeKind::kE2M1 || kind == CodeKind::kIq4; }
// What the 16 codes of a table stand for.
inline constexpr int8_t kE2M1Steps[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
inline constexpr int8_t kIq4Steps[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
constexpr const int8_t (&steps_of_table(CodeKind kind))[16] {
  return kind == CodeKind::kE2M1 ? kE2M1Steps : kIq4Steps;
}

// How the scale or the minimum of a group is stored; kNone: there is none. The kSuper kinds are integers that
// multiply an f16 of the *super-block*, 256 values of a row (a minimum is taken away: -f16 * integer):
// unsigned, or signed (of 6 bits, stored plus 32), or none (the f16 itself). kE8M0: a power of two, halved;
// kE4M3: a float of 8 bits without a sign, halved (as the steps of kE2M1 are doubled).
enum class FactorKind : uint8_t {
  kNone,
  kF16,
  kSuper,
  kSuper4,
  kSuper6,
  kSuperSigned6,
  kSuperSigned8,
  kE8M0,
  kE4M3,
};
inline constexpr int64_t kSuperBlock = 256;
constexpr bool is_super(FactorKind kind) {
  return kind >= FactorKind::kSuper && kind <= FactorKind::kSuperSigned8;
}
// Bits of a group's own factor.
constexpr size_t factor_bits(FactorKind kind) {
  switch (kind) {
    case FactorKind::kNone:
    case FactorKind::kSuper:
      return 0;
    case FactorKind::kF16:
      return 16;
    case FactorKind::kSuper4:
      return 4;
    case FactorKind::kSuper6:
    case FactorKind::kSuperSigned6:
      return 6;
    case FactorKind::kSuperSigned8:
    case FactorKind::kE8M0:
    case FactorKind::kE4M3:
      return 8;
  }
  return 0;
}

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
// How often 32 values of a row have a scale of their own: 1, or 2 for groups of 16.
constexpr size_t scales_of_32(DType dtype) {
  return is_quantized(dtype) ? static_cast<size_t>(kGroupSize / info_of(dtype).group) : 0;
}
// How many f16 a row has for each super-block: the scale's and the minimum's.
constexpr size_t super_halves(DType dtype) {
  if (!is_quantized(dtype)) return 0;
  return (is_super(info_of(dtype).scale) ? 1u : 0u) + (is_super(info_of(dtype).minimum) ? 1u : 0u);
}
// Bits of the scales and minima of 32 values of a row, besides what stands in the super-block.
constexpr size_t factors_bits(DType dtype) {
  if (!is_quantized(dtype)) return 0;
  return scales_of_32(dtype) * (factor_bits(info_of(dtype).scale) + factor_bits(info_of(dtype).minimum));
}
// Bytes of the scale of a cache's group (q8), which lie before its codes.
constexpr size_t scale_bytes(DType dtype) {
  if (!is_quantized(dtype)) return 0;
  return scales_of_32(dtype) * factor_bits(info_of(dtype).scale) / 8;
}
// Bytes of one row's group of 32 values, without what stands in the super-block: scales, minima, codes.
constexpr size_t group_bytes(DType dtype) {
  if (!is_valid(dtype)) return 0;
  return (factors_bits(dtype) + info_of(dtype).bits * static_cast<size_t>(kGroupSize)) / 8;
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
constexpr bool f16_is_finite(uint16_t bits) { return (bits & 0x7C00u) != 0x7C00u; }
uint16_t f32_to_f16(float value);
inline float bf16_to_f32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);

}  // namespace linnet
