// Codes of blocks (format/panel.h) as numbers: a width of codes has its place here and nowhere else in the shaders. t is a
// constant; half.glsl comes before.
#ifndef CODES
#define CODES
#include "types.glsl"

#define IN_BLOCKS(t) (CODE_BITS(t) != 0u)

// A block has CODE_LINES(t) lines, of a word for each row. A word holds CODE_PARTS(t) times the codes of four inputs that
// follow each other; part h of line i are those of the inputs from FIRST_OF_PART(i, h) on.
#define CODE_LINES(t) CODE_BITS(t)
#define FIRST_OF_PART(i, h) (4u * (i) + 16u * (h))

// The codes of part h, each in a byte.
uint codes_in(uint t, uint word, uint h) { return CODE_BITS(t) == 8u ? word : word >> 4u * h & 0x0F0F0F0Fu; }
uvec4 codes_in(uint t, uvec4 words, uint h) { return CODE_BITS(t) == 8u ? words : words >> 4u * h & 0x0F0F0F0Fu; }

// Code j of four, less the zero.
float steps_of(uint t, uint codes, uint j) {
  return SIGNED_CODES(t) ? float(bitfieldExtract(int(codes), int(8u * j), 8)) : float(codes >> 8u * j & 0xFFu) - CODE_ZERO(t);
}
vec4 steps_of(uint t, uvec4 codes, uint j) {
  return SIGNED_CODES(t) ? vec4(bitfieldExtract(ivec4(codes), int(8u * j), 8)) : vec4(codes >> 8u * j & 0xFFu) - CODE_ZERO(t);
}

// Row r of the scales or minima that begin with word `at`.
#define FACTOR(words, at, r) half_to_float(words[(at) + (r) / 2u] >> ((r)&1u) * 16u & 0xFFFFu)

#endif
