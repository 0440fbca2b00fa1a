#include "converter/readers/decode_ggml.h"

#include <cmath>
#include <cstring>

namespace linnet::convert {
namespace {

using Byte = uint8_t;

float half(const Byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return f16_to_f32(bits);
}

uint32_t word(const Byte* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
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
        const float scale = d * static_cast<float>(scales[s] & 15),
                    minimum = dmin * static_cast<float>(scales[s] >> 4);
        for (int i = 0; i < 16; ++i)
          *y++ = scale * static_cast<float>((q[16 * side + i] >> shift) & 3) - minimum;
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
      const int quads[4] = {
          (low[i] & 15) | (high[i] & 3) << 4, (low[i + 32] & 15) | ((high[i] >> 2) & 3) << 4,
          (low[i] >> 4) | ((high[i] >> 4) & 3) << 4, (low[i + 32] >> 4) | (high[i] >> 6) << 4};
      for (int k = 0; k < 4; ++k)
        y[i + 32 * k] = d * static_cast<float>(scales[s + 2 * k]) * static_cast<float>(quads[k] - 32);
    }
  }
}

// The 16 levels of the IQ4 types, denser around zero.
constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void sixteen_pairs(const Byte* q, float d, const float* levels, float* y) {
  for (int i = 0; i < 16; ++i) {
    y[i] = d * levels[q[i] & 15];
    y[i + 16] = d * levels[q[i] >> 4];
  }
}

void iq4_xs(const Byte* p, float* y) {
  const float d = half(p);
  const unsigned high = p[2] | static_cast<unsigned>(p[3]) << 8;
  const Byte *low = p + 4, *q = p + 8;
  for (int group = 0; group < 8; ++group, q += 16, y += 32) {
    const int scale =
        ((low[group / 2] >> (4 * (group % 2))) & 15) | static_cast<int>((high >> (2 * group)) & 3) << 4;
    sixteen_pairs(q, d * static_cast<float>(scale - 32), kIq4Levels, y);
  }
}

// OCP microscaling: E2M1 values under a power of two.
void mxfp4(const Byte* p, float* y) {
  static constexpr float kLevels[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                        -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
  sixteen_pairs(p + 1, std::ldexp(1.0f, p[0] - 127), kLevels, y);
}

}  // namespace

void decode_ggml_block(Encoding encoding, const Byte* p, float* y) {
  switch (encoding) {
    case Encoding::kQ4_0:
      return q4_0(p, y);
    case Encoding::kQ4_1:
      return q4_1(p, y);
    case Encoding::kQ5_0:
      return q5(p + 6, word(p + 2), half(p), 0.0f, 16, y);
    case Encoding::kQ5_1:
      return q5(p + 8, word(p + 4), half(p), half(p + 2), 0, y);
    case Encoding::kQ8_0:
      return q8_0(p, y);
    case Encoding::kQ2_K:
      return q2_k(p, y);
    case Encoding::kQ3_K:
      return q3_k(p, y);
    case Encoding::kQ4_K:
      return q4_k(p, y);
    case Encoding::kQ5_K:
      return q5_k(p, y);
    case Encoding::kQ6_K:
      return q6_k(p, y);
    case Encoding::kIQ4_NL:
      return sixteen_pairs(p + 2, half(p), kIq4Levels, y);
    case Encoding::kIQ4_XS:
      return iq4_xs(p, y);
    case Encoding::kMXFP4:
      return mxfp4(p, y);
    default:
      return;  // the plain encodings have no blocks
  }
}

}  // namespace linnet::convert
