// How each stored encoding becomes f32.
#include <array>
#include <cmath>
#include <cstring>

#include "converter/readers/checkpoint.h"
#include "converter/readers/decode_ggml.h"

namespace linnet::convert {
namespace {

template <typename T>
T load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

using Table = std::array<float, 256>;

// One sign, four exponent and three mantissa bits; no infinities, one NaN of each sign (OCP FP8).
Table f8_e4m3_table() {
  Table table;
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 15, mantissa = code & 7;
    float value;
    if (exponent == 15 && mantissa == 7)
      value = NAN;
    else if (exponent == 0)
      value = std::ldexp(static_cast<float>(mantissa), -9);
    else
      value = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    table[static_cast<size_t>(code)] = code & 0x80 ? -value : value;
  }
  return table;
}
Table f8_e5m2_table() {  // the upper byte of a half
  Table table;
  for (uint16_t code = 0; code < 256; ++code) table[code] = f16_to_f32(static_cast<uint16_t>(code << 8));
  return table;
}
Table f8_e8m0_table() {
  Table table;
  for (int code = 0; code < 255; ++code) table[static_cast<size_t>(code)] = std::ldexp(1.0f, code - 127);
  table[255] = NAN;
  return table;
}

template <typename T>
void convert_all(const uint8_t* p, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>(load<T>(p + i * static_cast<int64_t>(sizeof(T))));
}
void look_up(const Table& table, const uint8_t* p, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = table[p[i]];
}

constexpr bool kSame = true, kOther = false;
constexpr int kNoGgml = -1;
constexpr EncodingInfo kInfo[] = {
#define LINNET_ENCODING(name, text, values, bytes, nearest, groups, ggml) \
  {text, values, bytes, DType::k##nearest, groups, ggml},
#include "converter/readers/encodings.def"
};
static_assert(
    [] {
      for (const EncodingInfo& info : kInfo)
        if (info.groups && (info.block_values % kGroupSize != 0 || !is_quantized(info.nearest))) return false;
      return true;
    }(),
    "encodings.def: only blocks of whole groups can be taken over as groups");

}  // namespace

const EncodingInfo& encoding_info(Encoding encoding) { return kInfo[static_cast<size_t>(encoding)]; }

std::optional<Encoding> encoding_of_ggml(uint32_t type) {
  for (size_t i = 0; i < std::size(kInfo); ++i)
    if (kInfo[i].ggml >= 0 && static_cast<uint32_t>(kInfo[i].ggml) == type) return static_cast<Encoding>(i);
  return std::nullopt;
}

void decode_blocks(Encoding encoding, const std::byte* bytes, int64_t blocks, float* out) {
  static const Table kE4M3 = f8_e4m3_table(), kE5M2 = f8_e5m2_table(), kE8M0 = f8_e8m0_table();
  const auto* p = reinterpret_cast<const uint8_t*>(bytes);
  switch (encoding) {
    case Encoding::kF64:
      return convert_all<double>(p, blocks, out);
    case Encoding::kF32:
      return convert_all<float>(p, blocks, out);
    case Encoding::kF16:
      for (int64_t i = 0; i < blocks; ++i) out[i] = f16_to_f32(load<uint16_t>(p + 2 * i));
      return;
    case Encoding::kBF16:
      for (int64_t i = 0; i < blocks; ++i) out[i] = bf16_to_f32(load<uint16_t>(p + 2 * i));
      return;
    case Encoding::kF8E4M3:
      return look_up(kE4M3, p, blocks, out);
    case Encoding::kF8E5M2:
      return look_up(kE5M2, p, blocks, out);
    case Encoding::kF8E8M0:
      return look_up(kE8M0, p, blocks, out);
    case Encoding::kI64:
      return convert_all<int64_t>(p, blocks, out);
    case Encoding::kI32:
      return convert_all<int32_t>(p, blocks, out);
    case Encoding::kI16:
      return convert_all<int16_t>(p, blocks, out);
    case Encoding::kI8:
      return convert_all<int8_t>(p, blocks, out);
    case Encoding::kU64:
      return convert_all<uint64_t>(p, blocks, out);
    case Encoding::kU32:
      return convert_all<uint32_t>(p, blocks, out);
    case Encoding::kU16:
      return convert_all<uint16_t>(p, blocks, out);
    case Encoding::kU8:
      return convert_all<uint8_t>(p, blocks, out);
    case Encoding::kBool:
      for (int64_t i = 0; i < blocks; ++i) out[i] = p[i] ? 1.0f : 0.0f;
      return;
    default:
      break;
  }
  const EncodingInfo& info = encoding_info(encoding);
  std::array<format::BlockGroup, kSuperBlock / kGroupSize> groups;
  for (int64_t i = 0; i < blocks; ++i, p += info.block_bytes) {
    take_ggml_block_apart(encoding, p, groups.data());
    for (int64_t g = 0; g < info.block_values / kGroupSize; ++g, out += kGroupSize)
      format::values_of(info.nearest, groups[static_cast<size_t>(g)], out);
  }
}

void take_blocks_apart(Encoding encoding, const std::byte* bytes, int64_t blocks, format::BlockGroup* out) {
  const auto* p = reinterpret_cast<const uint8_t*>(bytes);
  const EncodingInfo& info = encoding_info(encoding);
  for (int64_t i = 0; i < blocks; ++i, p += info.block_bytes, out += info.block_values / kGroupSize)
    take_ggml_block_apart(encoding, p, out);
}

}  // namespace linnet::convert
