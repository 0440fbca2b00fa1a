// How each stored encoding becomes f32. The block layouts are GGUF's (ggml-common.h describes them).
#include <array>
#include <cmath>
#include <cstring>

#include "converter/readers/checkpoint.h"

namespace linnet::convert {
namespace {

using Byte = uint8_t;

uint16_t half_bits(const Byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}
float half(const Byte* p) { return f16_to_f32(half_bits(p)); }

template <typename T>
T load(const Byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

float f8_e4m3(Byte bits) {  // the "fn" form: no infinities, one NaN
  const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
  float value;
  if (exponent == 15 && mantissa == 7)
    value = NAN;
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(mantissa), -9);
  else
    value = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -value : value;
}

void q4_0(const Byte* p, float* y) {
  const float d = half(p);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((p[2 + i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((p[2 + i] >> 4) - 8);
  }
}
void q4_1(const Byte* p, float* y) {
  const float d = half(p), m = half(p + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(p[4 + i] & 15) + m;
    y[i + 16] = d * static_cast<float>(p[4 + i] >> 4) + m;
  }
}
void q5(const Byte* quants, uint32_t high, float d, float m, int zero, float* y) {
  for (int i = 0; i < 16; ++i) {
    const int low = (quants[i] & 15) | static_cast<int>((high >> i) & 1) << 4;
    const int top = (quants[i] >> 4) | static_cast<int>((high >> (i + 16)) & 1) << 4;
    y[i] = d * static_cast<float>(low - zero) + m;
    y[i + 16] = d * static_cast<float>(top - zero) + m;
  }
}
void q8_0(const Byte* p, float* y) {
  const float d = half(p);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(p[2 + i]));
}

// The 6-bit scale and minimum number j of Q4_K and Q5_K.
void scale_and_minimum(const Byte* s, int j, float d, float dmin, float& scale, float& minimum) {
  int a, b;
  if (j < 4) {
    a = s[j] & 63;
    b = s[j + 4] & 63;
  } else {
    a = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    b = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
  }
  scale = d * static_cast<float>(a);
  minimum = dmin * static_cast<float>(b);
}

void q2_k(const Byte* p, float* y) {
  const Byte *scales = p, *q = p + 16;
  const float d = half(p + 80), dmin = half(p + 82);
  for (int part = 0, s = 0; part < 2; ++part, q += 32) {
    for (int shift = 0; shift < 8; shift += 2) {
      for (int side = 0; side < 2; ++side, ++s) {
        const float scale = d * static_cast<float>(scales[s] & 15), minimum = dmin * static_cast<float>(scales[s] >> 4);
        for (int i = 0; i < 16; ++i) *y++ = scale * static_cast<float>((q[16 * side + i] >> shift) & 3) - minimum;
      }
    }
  }
}

void q3_k(const Byte* p, float* y) {
  const Byte *mask = p, *q = p + 32, *packed = p + 96;
  const float d = half(p + 108);
  int scales[16];
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
    scales[i] = (low | high << 4) - 32;
  }
  int bit = 0;
  for (int part = 0, s = 0; part < 2; ++part, q += 32) {
    for (int shift = 0; shift < 8; shift += 2, ++bit) {
      for (int side = 0; side < 2; ++side, ++s) {
        const float scale = d * static_cast<float>(scales[s]);
        for (int i = 0; i < 16; ++i) {
          const int j = 16 * side + i;
          *y++ = scale * static_cast<float>(((q[j] >> shift) & 3) - ((mask[j] >> bit) & 1 ? 0 : 4));
        }
      }
    }
  }
}

void q4_k(const Byte* p, float* y) {
  const float d = half(p), dmin = half(p + 2);
  const Byte* q = p + 16;
  for (int j = 0; j < 8; j += 2, q += 32) {
    for (int side = 0; side < 2; ++side) {
      float scale, minimum;
      scale_and_minimum(p + 4, j + side, d, dmin, scale, minimum);
      for (int i = 0; i < 32; ++i) *y++ = scale * static_cast<float>(side ? q[i] >> 4 : q[i] & 15) - minimum;
    }
  }
}

void q5_k(const Byte* p, float* y) {
  const float d = half(p), dmin = half(p + 2);
  const Byte *high = p + 16, *q = p + 48;
  for (int j = 0; j < 8; j += 2, q += 32) {
    for (int side = 0; side < 2; ++side) {
      float scale, minimum;
      scale_and_minimum(p + 4, j + side, d, dmin, scale, minimum);
      for (int i = 0; i < 32; ++i) {
        const int low = side ? q[i] >> 4 : q[i] & 15;
        *y++ = scale * static_cast<float>(low + ((high[i] >> (j + side)) & 1 ? 16 : 0)) - minimum;
      }
    }
  }
}

void q6_k(const Byte* p, float* y) {
  const Byte *low = p, *high = p + 128;
  const auto* scales = reinterpret_cast<const int8_t*>(p + 192);
  const float d = half(p + 208);
  for (int part = 0; part < 2; ++part, low += 64, high += 32, scales += 8, y += 128) {
    for (int i = 0; i < 32; ++i) {
      const int s = i / 16;
      const int quads[4] = {(low[i] & 15) | (high[i] & 3) << 4, (low[i + 32] & 15) | ((high[i] >> 2) & 3) << 4,
                            (low[i] >> 4) | ((high[i] >> 4) & 3) << 4, (low[i + 32] >> 4) | (high[i] >> 6) << 4};
      for (int k = 0; k < 4; ++k)
        y[i + 32 * k] = d * static_cast<float>(scales[s + 2 * k]) * static_cast<float>(quads[k] - 32);
    }
  }
}

void decode_one(Encoding encoding, const Byte* p, float* y) {
  switch (encoding) {
    case Encoding::kF64: *y = static_cast<float>(load<double>(p)); break;
    case Encoding::kF32: *y = load<float>(p); break;
    case Encoding::kF16: *y = half(p); break;
    case Encoding::kBF16: *y = bf16_to_f32(half_bits(p)); break;
    case Encoding::kF8E4M3: *y = f8_e4m3(*p); break;
    case Encoding::kF8E5M2: *y = f16_to_f32(static_cast<uint16_t>(*p << 8)); break;
    case Encoding::kI64: *y = static_cast<float>(load<int64_t>(p)); break;
    case Encoding::kI32: *y = static_cast<float>(load<int32_t>(p)); break;
    case Encoding::kI16: *y = static_cast<float>(load<int16_t>(p)); break;
    case Encoding::kI8: *y = static_cast<float>(static_cast<int8_t>(*p)); break;
    case Encoding::kU8: *y = static_cast<float>(*p); break;
    case Encoding::kBool: *y = *p ? 1.0f : 0.0f; break;
    case Encoding::kQ4_0: q4_0(p, y); break;
    case Encoding::kQ4_1: q4_1(p, y); break;
    case Encoding::kQ5_0: q5(p + 6, load<uint32_t>(p + 2), half(p), 0.0f, 16, y); break;
    case Encoding::kQ5_1: q5(p + 8, load<uint32_t>(p + 4), half(p), half(p + 2), 0, y); break;
    case Encoding::kQ8_0: q8_0(p, y); break;
    case Encoding::kQ2_K: q2_k(p, y); break;
    case Encoding::kQ3_K: q3_k(p, y); break;
    case Encoding::kQ4_K: q4_k(p, y); break;
    case Encoding::kQ5_K: q5_k(p, y); break;
    case Encoding::kQ6_K: q6_k(p, y); break;
  }
}

constexpr std::array<EncodingInfo, 22> kInfo = {{
    {"F64", 1, 8},      {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},     {"F8_E4M3", 1, 1}, {"F8_E5M2", 1, 1},
    {"I64", 1, 8},      {"I32", 1, 4},      {"I16", 1, 2},      {"I8", 1, 1},       {"U8", 1, 1},      {"BOOL", 1, 1},
    {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},  {"Q2_K", 256, 84},
    {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
}};

}  // namespace

const EncodingInfo& encoding_info(Encoding encoding) { return kInfo[static_cast<size_t>(encoding)]; }

void decode_blocks(Encoding encoding, const std::byte* bytes, int64_t blocks, float* out) {
  const EncodingInfo& info = encoding_info(encoding);
  const auto* p = reinterpret_cast<const Byte*>(bytes);
  if (encoding == Encoding::kF32) {
    std::memcpy(out, p, static_cast<size_t>(blocks) * sizeof(float));
    return;
  }
  if (encoding == Encoding::kBF16) {  // the commonest: worth a loop of its own
    for (int64_t i = 0; i < blocks; ++i) out[i] = bf16_to_f32(half_bits(p + 2 * i));
    return;
  }
  for (int64_t i = 0; i < blocks; ++i, p += info.block_bytes, out += info.block_values) decode_one(encoding, p, out);
}

}  // namespace linnet::convert
