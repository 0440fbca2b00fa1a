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
// input_step later: with codes of 4 bits a word has inputs of both halves of its group. A unit is of CODE_BITS / 4 lines.
#define UNIT_LINES(t) (CODE_BITS(t) / 4u)
uint units(uint k) { return (k + GROUP_INPUTS - 1u) / GROUP_INPUTS * 4u; }
uint first_input(uint dtype, uint n) { return CODE_BITS(dtype) == 4u ? n / 4u * 32u + n % 4u * 4u : n * 8u; }
uint input_step(uint dtype) { return CODE_BITS(dtype) == 4u ? 16u : 4u; }

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
    uint at = (panel * (units(k) / 4u) + n / 4u) * (BLOCK_WORDS(MATRIX_DTYPE) / 4u);
    vec4 d = quad_of_halves(MATRIX_WORDS[at + c / 2u], c), m = vec4(0.0);
    if (HAS_MINIMUM(MATRIX_DTYPE)) m = quad_of_halves(MATRIX_WORDS[at + MINIMA_AT(MATRIX_DTYPE) / 4u + c / 2u], c);
    at += CODES_AT(MATRIX_DTYPE) / 4u + n % 4u * UNIT_LINES(MATRIX_DTYPE) * (PANEL_ROWS / 4u) + c;
    for (uint i = 0u; i < UNIT_LINES(MATRIX_DTYPE); ++i) {
      uvec4 words = MATRIX_WORDS[at + i * (PANEL_ROWS / 4u)];
      for (uint h = 0u; h < CODE_PARTS(MATRIX_DTYPE); ++h) {
        uvec4 codes = codes_in(MATRIX_DTYPE, words, h);
        for (uint j = 0u; j < 4u; ++j) {
          // Rounded twice, as the host does it.
          precise vec4 a = d * steps_of(MATRIX_DTYPE, codes, j);
          precise vec4 a_m = a + m;
          w[4u * (i + h) + j] = HAS_MINIMUM(MATRIX_DTYPE) ? a_m : a;
        }
      }
    }
  }
}

#undef MATRIX_BINDING
#undef MATRIX_BLOCK
#undef MATRIX_WORDS
#undef MATRIX_DTYPE
#undef MATRIX_LOAD
