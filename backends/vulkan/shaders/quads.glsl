// A matrix in panels (format/panel.h) as products of few tokens read it: the words of four rows together, so that four
// threads read a line of 64 bytes, and the next four that of the next unit of inputs: the next line of nibbles, two lines
// further for q8, four for f16, eight for f32. Include as matrix.glsl, with WHOLE defined: K is a multiple of 32.
#include "codes.glsl"
#ifndef QUADS
#define QUADS

vec4 halves(uvec4 h) {
  return vec4(half_to_float(h.x), half_to_float(h.y), half_to_float(h.z), half_to_float(h.w));
}
// Of 16 halves in two words of four, those of rows 4 c to 4 c + 3, which are in words[c / 2].
vec4 quad_of_halves(uvec4 words, uint c) {
  uvec2 own = (c & 1u) == 0u ? words.xy : words.zw;
  return halves(uvec4(own.x & 0xFFFFu, own.x >> 16, own.y & 0xFFFFu, own.y >> 16));
}

// Inputs come in units of eight, four to a group of 32: first_input to first_input + 3, and the four that begin
// input_step later: with codes of fewer than 8 bits a word has inputs of both halves of its group, and a unit has four of
// each.
uint units(uint k) { return (k + GROUP_INPUTS - 1u) / GROUP_INPUTS * 4u; }
bool in_halves(uint dtype) { return IN_BLOCKS(dtype) && CODE_BITS(dtype) < 8u; }
uint first_input(uint dtype, uint n) { return in_halves(dtype) ? n / 4u * 32u + n % 4u * 4u : n * 8u; }
uint input_step(uint dtype) { return in_halves(dtype) ? 16u : 4u; }

// Word `at` of words of four.
#define WORD_OF(words, at) words[(at) / 4u][(at) % 4u]
#define QUAD_NUMBERS(numbers, words, t, at, c, h) \
  numbers(t, WORD_OF(words, (at) + LOW_FACTOR(t, c, h)), WORD_OF(words, (at) + HIGH_FACTOR(t, c)), c, h)
#define QUAD_HALVES(words, at, c) quad_of_halves(words[(at) / 4u + (c) / 2u], c)
// SCALE_OF and LEAST_OF of four rows.
#define SCALE_QUAD(words, t, panel, b, c, h)                                                             \
  ((FLOAT_SCALES(t)   ? uintBitsToFloat(words[(panel) / 4u + (c)])                                       \
    : POWER_SCALES(t) ? vec4(1.0)                                                                        \
                      : QUAD_HALVES(words, (panel) + SCALES_AT(t, b), c)) *                              \
   (IN_NUMBERS(t) ? QUAD_NUMBERS(scale_numbers, words, t, (panel) + factors_at(t, b), c, h) : vec4(1.0)))
#define LEAST_QUAD(words, t, panel, b, c, h)                                                             \
  (!HAS_MINIMUM(t)  ? vec4(0.0)                                                                          \
   : HALF_SCALES(t) ? QUAD_HALVES(words, (panel) + factors_at(t, b) + MINIMA_AT(t), c)                   \
                    : -QUAD_HALVES(words, (panel) + head_at(t, b) + 8u, c) *                             \
                          QUAD_NUMBERS(least_numbers, words, t, (panel) + factors_at(t, b), c, h))

#endif

layout(std430, binding = MATRIX_BINDING) readonly buffer MATRIX_BLOCK { uvec4 MATRIX_WORDS[]; };

// Unit n of rows 4 c to 4 c + 3 of `panel`, input by input; zeros beyond k.
void MATRIX_LOAD(uint panel, uint c, uint n, uint k, out vec4 w[8]) {
  if (MATRIX_DTYPE == DTYPE_F32) {
    uint at = (panel * k + n * 8u) * 4u + c;
    for (uint i = 0u; i < 8u; ++i)
      w[i] = WHOLE || n * 8u + i < k ? uintBitsToFloat(MATRIX_WORDS[at + i * 4u]) : vec4(0.0);
  } else if (!IN_BLOCKS(MATRIX_DTYPE)) {
    uint pairs = (k + 1u) / 2u, at = (panel * pairs + n * 4u) * 4u + c;
    for (uint i = 0u; i < 4u; ++i) {
      uvec4 words = WHOLE || n * 4u + i < pairs ? MATRIX_WORDS[at + i * 4u] : uvec4(0u);
      w[2u * i] = MATRIX_DTYPE == DTYPE_F16 ? halves(words & 0xFFFFu) : uintBitsToFloat(words << 16);
      w[2u * i + 1u] = MATRIX_DTYPE == DTYPE_F16 ? halves(words >> 16) : uintBitsToFloat(words & 0xFFFF0000u);
    }
  } else {
    uint b = n / 4u, first = panel * panel_words(MATRIX_DTYPE, units(k) / 4u);
    uint at = (first + block_at(MATRIX_DTYPE, b) + CODES_AT(MATRIX_DTYPE)) / 4u + c;
    vec4 d = SCALE_QUAD(MATRIX_WORDS, MATRIX_DTYPE, first, b, c, 0u);
    vec4 m = LEAST_QUAD(MATRIX_WORDS, MATRIX_DTYPE, first, b, c, 0u);
    for (uint h = 0u; h < 2u; ++h) {
      if (HALVES(MATRIX_DTYPE) == 2u && h == 1u) {
        d = SCALE_QUAD(MATRIX_WORDS, MATRIX_DTYPE, first, b, c, 1u);
        m = LEAST_QUAD(MATRIX_WORDS, MATRIX_DTYPE, first, b, c, 1u);
      }
      uint i = in_halves(MATRIX_DTYPE) ? n % 4u + 4u * h : n % 4u * 2u + h;
      uvec4 low = MATRIX_WORDS[at + LOW_LINE(MATRIX_DTYPE, i) * (PANEL_ROWS / 4u)], high = uvec4(0u);
      if (HAS_HIGH(MATRIX_DTYPE)) high = MATRIX_WORDS[at + HIGH_LINE(MATRIX_DTYPE, i) * (PANEL_ROWS / 4u)];
      uvec4 codes = codes_of(MATRIX_DTYPE, low, high, i);
      for (uint j = 0u; j < 4u; ++j) {
        // Rounded twice, as the host does it.
        precise vec4 a = d * steps_of(MATRIX_DTYPE, codes, j);
        precise vec4 a_m = a + m;
        w[4u * h + j] = HAS_MINIMUM(MATRIX_DTYPE) ? a_m : a;
      }
    }
  }
}

#undef MATRIX_BINDING
#undef MATRIX_BLOCK
#undef MATRIX_WORDS
#undef MATRIX_DTYPE
#undef MATRIX_LOAD
