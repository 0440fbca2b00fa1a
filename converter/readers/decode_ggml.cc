#include "converter/readers/decode_ggml.h"

#include <cstring>

namespace linnet::convert {
namespace {

using format::BlockGroup;
using Byte = uint8_t;

constexpr size_t kSuperGroups = static_cast<size_t>(kSuperBlock / kGroupSize);

uint16_t half(const Byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}

// Codes of four bits: byte i has those of values i and 16 + i.
void pairs(const Byte* q, BlockGroup& group) {
  for (size_t i = 0; i < 16; ++i) {
    group.codes[i] = q[i] & 15;
    group.codes[i + 16] = q[i] >> 4;
  }
}
// The fifth bit of each code.
void fifth_bits(const Byte* high, BlockGroup& group) {
  for (size_t i = 0; i < 32; ++i)
    group.codes[i] = static_cast<Byte>(group.codes[i] | (high[i / 8] >> (i % 8) & 1) << 4);
}

void q8_0(const Byte* p, BlockGroup& group) {
  group.scale = half(p);
  std::memcpy(group.codes.data(), p + 2, 32);
}

// The 6-bit scale and minimum of group j of Q4_K and Q5_K.
void scale_and_minimum(const Byte* s, size_t j, BlockGroup& group) {
  if (j < 4) {
    group.factor[0] = s[j] & 63;
    group.least[0] = s[j + 4] & 63;
  } else {
    group.factor[0] = static_cast<Byte>((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
    group.least[0] = static_cast<Byte>((s[j + 4] >> 4) | (s[j] >> 6) << 4);
  }
}

// Two bits of each of 256 values: those of group g in bits 2 (g % 4) of half g / 4 of the bytes.
void two_bits(const Byte* q, size_t g, BlockGroup& group) {
  for (size_t i = 0; i < 32; ++i) group.codes[i] = q[g / 4 * 32 + i] >> (g % 4 * 2) & 3;
}

void q2_k(const Byte* p, BlockGroup* groups) {
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p + 80);
    groups[g].minimum = half(p + 82);
    for (size_t side = 0; side < 2; ++side) {
      groups[g].factor[side] = p[2 * g + side] & 15;
      groups[g].least[side] = p[2 * g + side] >> 4;
    }
    two_bits(p + 16, g, groups[g]);
  }
}

void q3_k(const Byte* p, BlockGroup* groups) {
  const Byte *mask = p, *packed = p + 96;
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p + 108);
    for (size_t side = 0; side < 2; ++side) {
      const size_t i = 2 * g + side;
      const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
      const int high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
      groups[g].factor[side] = static_cast<Byte>(low | high << 4);
    }
    two_bits(p + 32, g, groups[g]);
    for (size_t i = 0; i < 32; ++i)
      groups[g].codes[i] = static_cast<Byte>(groups[g].codes[i] | (mask[i] >> g & 1) << 2);
  }
}

// Four bits of each of 256 values: group g in one half of the bytes of its pair of groups.
void four_bits(const Byte* q, size_t g, BlockGroup& group) {
  for (size_t i = 0; i < 32; ++i) group.codes[i] = q[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
}

void q4_k(const Byte* p, BlockGroup* groups) {
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p);
    groups[g].minimum = half(p + 2);
    scale_and_minimum(p + 4, g, groups[g]);
    four_bits(p + 16, g, groups[g]);
  }
}

void q5_k(const Byte* p, BlockGroup* groups) {
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p);
    groups[g].minimum = half(p + 2);
    scale_and_minimum(p + 4, g, groups[g]);
    four_bits(p + 48, g, groups[g]);
    for (size_t i = 0; i < 32; ++i)
      groups[g].codes[i] = static_cast<Byte>(groups[g].codes[i] | (p[16 + i] >> g & 1) << 4);
  }
}

void q6_k(const Byte* p, BlockGroup* groups) {
  for (size_t g = 0; g < kSuperGroups; ++g) {
    const size_t part = g / 4, quarter = g % 4;
    const Byte *low = p + part * 64 + quarter % 2 * 32, *high = p + 128 + part * 32;
    groups[g].scale = half(p + 208);
    groups[g].factor = {p[192 + 2 * g], p[193 + 2 * g]};
    for (size_t i = 0; i < 32; ++i)
      groups[g].codes[i] =
          static_cast<Byte>((low[i] >> (quarter / 2 * 4) & 15) | (high[i] >> (quarter * 2) & 3) << 4);
  }
}

void iq4_xs(const Byte* p, BlockGroup* groups) {
  const unsigned high = half(p + 2);
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p);
    groups[g].factor[0] =
        static_cast<Byte>((p[4 + g / 2] >> (4 * (g % 2)) & 15) | (high >> (2 * g) & 3) << 4);
    pairs(p + 8 + 16 * g, groups[g]);
  }
}

// Ternary values: 0, 1, 2 for -1, 0, 1. Five to a byte, the digits of a number below 243 that was scaled to
// 256: digit n is what a multiplication by 3^n leaves above the byte, times 3.
Byte digit(Byte packed, int power) { return static_cast<Byte>(static_cast<Byte>(packed * power) * 3 >> 8); }

void tq1_0(const Byte* p, BlockGroup* groups) {
  static constexpr int kPowers[5] = {1, 3, 9, 27, 81};
  const auto put = [&](size_t at, Byte code) { groups[at / 32].codes[at % 32] = code; };
  for (size_t n = 0; n < 5; ++n) {
    for (size_t i = 0; i < 32; ++i) put(n * 32 + i, digit(p[i], kPowers[n]));
    for (size_t i = 0; i < 16; ++i) put(160 + n * 16 + i, digit(p[32 + i], kPowers[n]));
    for (size_t i = 0; i < 4 && n < 4; ++i) put(240 + n * 4 + i, digit(p[48 + i], kPowers[n]));
  }
  for (size_t g = 0; g < kSuperGroups; ++g) groups[g].scale = half(p + 52);
}

void tq2_0(const Byte* p, BlockGroup* groups) {
  for (size_t g = 0; g < kSuperGroups; ++g) {
    groups[g].scale = half(p + 64);
    two_bits(p, g, groups[g]);
  }
}

// 64 values: a scale for each 16, whose first eight lie in the low halves of eight bytes.
void nvfp4(const Byte* p, BlockGroup* groups) {
  for (size_t part = 0; part < 4; ++part) {
    BlockGroup& group = groups[part / 2];
    group.factor[part % 2] = p[part];
    for (size_t i = 0; i < 8; ++i) {
      const Byte q = p[4 + part * 8 + i];
      group.codes[part % 2 * 16 + i] = q & 15;
      group.codes[part % 2 * 16 + 8 + i] = q >> 4;
    }
  }
}

}  // namespace

void take_ggml_block_apart(Encoding encoding, const uint8_t* p, BlockGroup* groups) {
  BlockGroup& group = *groups;
  switch (encoding) {
    case Encoding::kQ4_0:
    case Encoding::kIQ4_NL:
      group.scale = half(p);
      return pairs(p + 2, group);
    case Encoding::kQ4_1:
      group.scale = half(p);
      group.minimum = half(p + 2);
      return pairs(p + 4, group);
    case Encoding::kQ5_0:
      group.scale = half(p);
      pairs(p + 6, group);
      return fifth_bits(p + 2, group);
    case Encoding::kQ5_1:
      group.scale = half(p);
      group.minimum = half(p + 2);
      pairs(p + 8, group);
      return fifth_bits(p + 4, group);
    case Encoding::kQ8_0:
      return q8_0(p, group);
    case Encoding::kQ2_K:
      return q2_k(p, groups);
    case Encoding::kQ3_K:
      return q3_k(p, groups);
    case Encoding::kQ4_K:
      return q4_k(p, groups);
    case Encoding::kQ5_K:
      return q5_k(p, groups);
    case Encoding::kQ6_K:
      return q6_k(p, groups);
    case Encoding::kIQ4_XS:
      return iq4_xs(p, groups);
    case Encoding::kTQ1_0:
      return tq1_0(p, groups);
    case Encoding::kTQ2_0:
      return tq2_0(p, groups);
    case Encoding::kMXFP4:
      group.factor[0] = p[0];
      return pairs(p + 1, group);
    case Encoding::kNVFP4:
      return nvfp4(p, groups);
    default:
      return;  // the plain encodings have no blocks
  }
}

}  // namespace linnet::convert
