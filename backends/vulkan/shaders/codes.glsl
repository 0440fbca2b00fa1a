// Block formats (format/panel.h) as numbers: a width of codes and a kind of scales have their place here and nowhere else in
// the shaders. t is a constant; half.glsl comes before.
#ifndef CODES
#define CODES
#include "types.glsl"

#define IN_BLOCKS(t) (CODE_BITS(t) != 0u)

// Words of a panel of so many blocks; where in a panel the head that counts for block b lies, its scales and minima, the
// block itself.
uint panel_words(uint t, uint blocks) {
  uint heads = FLOAT_SCALES(t) ? 1u : (blocks + BLOCKS_OF_SUPER - 1u) / BLOCKS_OF_SUPER;
  return blocks * BLOCK_WORDS(t) + heads * HEAD_WORDS(t);
}
uint head_at(uint t, uint b) {
  return SUPER_BLOCKS(t) ? b / BLOCKS_OF_SUPER * (BLOCKS_OF_SUPER * BLOCK_WORDS(t) + HEAD_WORDS(t)) : 0u;
}
uint block_at(uint t, uint b) {
  return b * BLOCK_WORDS(t) + (SUPER_BLOCKS(t) ? b / BLOCKS_OF_SUPER + 1u : 1u) * HEAD_WORDS(t);
}
uint factors_at(uint t, uint b) {
  return SUPER_BLOCKS(t) ? head_at(t, b) + HEAD_HALVES_WORDS(t) + b % BLOCKS_OF_SUPER * FACTOR_WORDS(t) : block_at(t, b);
}

// ---- codes

// Codes of four inputs that follow each other, 4 i to 4 i + 3, each in a byte. They lie in word LOW_LINE(t, i) of a row and,
// with more bits than those there, in word HIGH_LINE(t, i); a line has a word for each row.
#define LOW_BITS(t) (CODE_BITS(t) == 8u ? 8u : CODE_BITS(t) >= 4u ? 4u : 2u)
#define LOW_LINE(t, i) (LOW_BITS(t) == 8u ? (i) : LOW_BITS(t) == 4u ? (i) % 4u : (i) / 4u)
#define LOW_SHIFT(t, i) (LOW_BITS(t) == 8u ? 0u : LOW_BITS(t) == 4u ? (i) / 4u * 4u : (i) % 4u * 2u)
#define LOW_MASK(t) (LOW_BITS(t) == 8u ? 0xFFFFFFFFu : LOW_BITS(t) == 4u ? 0x0F0F0F0Fu : 0x03030303u)
#define HAS_HIGH(t) (CODE_BITS(t) > LOW_BITS(t))
#define HIGH_LINE(t, i) (CODE_BITS(t) == 6u ? 4u + (i) % 4u / 2u : LOW_BITS(t))
#define HIGH_SHIFT(t, i) (CODE_BITS(t) == 6u ? (i) / 4u * 4u + (i) % 2u * 2u : (i))
#define HIGH_MASK(t) (CODE_BITS(t) == 6u ? 0x03030303u : 0x01010101u)
uint codes_of(uint t, uint low, uint high, uint i) {
  uint codes = low >> LOW_SHIFT(t, i) & LOW_MASK(t);
  return HAS_HIGH(t) ? codes | (high >> HIGH_SHIFT(t, i) & HIGH_MASK(t)) << LOW_BITS(t) : codes;
}
uvec4 codes_of(uint t, uvec4 low, uvec4 high, uint i) {
  uvec4 codes = low >> LOW_SHIFT(t, i) & LOW_MASK(t);
  return HAS_HIGH(t) ? codes | (high >> HIGH_SHIFT(t, i) & HIGH_MASK(t)) << LOW_BITS(t) : codes;
}

#define IN_TABLE(t) (E2M1_CODES(t) || IQ4_CODES(t))
// What code j of four stands for, in steps of the scale.
float step_of_code(uint t, uint code) {
  if (E2M1_CODES(t)) return E2M1_STEPS[code];
  if (IQ4_CODES(t)) return IQ4_STEPS[code];
  return float(code) - float(CODE_ZERO(t));
}
float steps_of(uint t, uint codes, uint j) {
  return SIGNED_CODES(t) ? float(bitfieldExtract(int(codes), int(8u * j), 8)) : step_of_code(t, codes >> 8u * j & 0xFFu);
}
vec4 steps_of(uint t, uvec4 codes, uint j) {
  if (SIGNED_CODES(t)) return vec4(bitfieldExtract(ivec4(codes), int(8u * j), 8));
  uvec4 code = codes >> 8u * j & 0xFFu;
  if (!IN_TABLE(t)) return vec4(code) - float(CODE_ZERO(t));
  return vec4(step_of_code(t, code.x), step_of_code(t, code.y), step_of_code(t, code.z), step_of_code(t, code.w));
}

// ---- scales and minima

// Row r of the f16 that begin with word `at`.
#define FACTOR(words, at, r) half_to_float(words[(at) + (r) / 2u] >> ((r)&1u) * 16u & 0xFFFFu)

// Four rows, 4 c to 4 c + 3, of half h of a group: in words LOW_FACTOR and HIGH_FACTOR of its scales and minima.
#define IN_PAIRS(t) (FACTOR_WORDS(t) == 6u)
#define LOW_FACTOR(t, c, h) (FACTOR_WORDS(t) == 3u ? (c) & 1u : IN_PAIRS(t) ? (c) : 4u * (h) + (c))
#define HIGH_FACTOR(t, c) (FACTOR_WORDS(t) == 3u ? 2u : IN_PAIRS(t) ? 4u + ((c) & 1u) : 0u)
uvec4 bytes_of(uint word) { return uvec4(word, word >> 8, word >> 16, word >> 24) & 0xFFu; }
// Of two numbers of six bits.
uvec4 first_of_pair(uvec4 low, uvec4 high, uint c) { return low & 15u | (high >> (c >> 1) * 4u & 3u) << 4; }
uvec4 second_of_pair(uvec4 low, uvec4 high, uint c) { return low >> 4 | (high >> (c >> 1) * 4u + 2u & 3u) << 4; }
vec4 scale_numbers(uint t, uint low_word, uint high_word, uint c, uint h) {
  uvec4 low = bytes_of(low_word), high = bytes_of(high_word);
  if (NIBBLE_SCALES(t)) return vec4(low & 15u);
  if (SIX_BIT_SCALES(t)) return vec4(first_of_pair(low, high, c));
  if (BYTE_SCALES(t)) return vec4(bitfieldExtract(ivec4(low), 0, 8));
  if (SIGNED_SIX_BIT_SCALES(t) && IN_PAIRS(t))
    return vec4(h == 0u ? first_of_pair(low, high, c) : second_of_pair(low, high, c)) - 32.0;
  if (SIGNED_SIX_BIT_SCALES(t)) return vec4(low >> (c >> 1) * 4u & 15u | (high >> c * 2u & 3u) << 4) - 32.0;
  if (POWER_SCALES(t)) return uintBitsToFloat(low << 23) * 0.5;  // 2^(e - 128)
  vec4 small = vec4(low) * 0.0009765625, large = uintBitsToFloat((low >> 3) + 119u << 23 | (low & 7u) << 20);
  return mix(large, small, equal(low >> 3, uvec4(0u)));
}
vec4 least_numbers(uint t, uint low_word, uint high_word, uint c, uint h) {
  uvec4 low = bytes_of(low_word), high = bytes_of(high_word);
  return vec4(NIBBLE_SCALES(t) ? low >> 4 : second_of_pair(low, high, c));
}

// The same of one row, from the words of a buffer: scale and minimum of row r, half h, of the block b of the panel that
// begins with word `panel`. A scale is an f16 (of the group or its super-block) or the row's f32, times a number of fewer
// bits where there is one.
#define IN_NUMBERS(t) (FACTOR_WORDS(t) != 0u && !HALF_SCALES(t))
#define SCALES_AT(t, b) (HALF_SCALES(t) ? factors_at(t, b) : head_at(t, b))
#define NUMBERS_AT(numbers, words, t, at, r, h) \
  numbers(t, words[(at) + LOW_FACTOR(t, (r) / 4u, h)], words[(at) + HIGH_FACTOR(t, (r) / 4u)], (r) / 4u, h)[(r)&3u]
#define SCALE_OF(words, t, panel, b, r, h)                                                                  \
  ((FLOAT_SCALES(t)   ? uintBitsToFloat(words[(panel) + (r)])                                               \
    : POWER_SCALES(t) ? 1.0                                                                                 \
                      : FACTOR(words, (panel) + SCALES_AT(t, b), r)) *                                      \
   (IN_NUMBERS(t) ? NUMBERS_AT(scale_numbers, words, t, (panel) + factors_at(t, b), r, h) : 1.0))
#define LEAST_OF(words, t, panel, b, r, h)                                                                  \
  (!HAS_MINIMUM(t)  ? 0.0                                                                                   \
   : HALF_SCALES(t) ? FACTOR(words, (panel) + factors_at(t, b) + MINIMA_AT(t), r)                           \
                    : -FACTOR(words, (panel) + head_at(t, b) + 8u, r) *                                     \
                          NUMBERS_AT(least_numbers, words, t, (panel) + factors_at(t, b), r, h))

#endif
