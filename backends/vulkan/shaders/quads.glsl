// A matrix in panels (format/panel.h) as products of few tokens read it: the words of four rows together, so that four
// threads read a line of 64 bytes, and the next four that of the next unit of inputs: the next line of nibbles, two lines
// further for q8, four for f16, eight for f32. Include as matrix.glsl, with WHOLE defined: K is a multiple of 32.
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
// input_step later. A word of nibbles has inputs of both halves of its group.
uint units(uint k) { return (k + 31u) / 32u * 4u; }
uint first_input(uint dtype, uint n) { return dtype >= 4u ? n / 4u * 32u + n % 4u * 4u : n * 8u; }
uint input_step(uint dtype) { return dtype >= 4u ? 16u : 4u; }

#endif

layout(std430, binding = MATRIX_BINDING) readonly buffer MATRIX_BLOCK { uvec4 MATRIX_WORDS[]; };

// Unit n of rows 4 c to 4 c + 3 of `panel`, input by input; zeros beyond k.
void MATRIX_LOAD(uint panel, uint c, uint n, uint k, out vec4 w[8]) {
  if (MATRIX_DTYPE == 0u) {
    uint at = (panel * k + n * 8u) * 4u + c;
    for (uint i = 0u; i < 8u; ++i)
      w[i] = WHOLE || n * 8u + i < k ? uintBitsToFloat(MATRIX_WORDS[at + i * 4u]) : vec4(0.0);
  } else if (MATRIX_DTYPE == 1u || MATRIX_DTYPE == 2u) {
    uint pairs = (k + 1u) / 2u, at = (panel * pairs + n * 4u) * 4u + c;
    for (uint i = 0u; i < 4u; ++i) {
      uvec4 words = WHOLE || n * 4u + i < pairs ? MATRIX_WORDS[at + i * 4u] : uvec4(0u);
      w[2u * i] = MATRIX_DTYPE == 1u ? halves(words & 0xFFFFu) : uintBitsToFloat(words << 16);
      w[2u * i + 1u] = MATRIX_DTYPE == 1u ? halves(words >> 16) : uintBitsToFloat(words & 0xFFFF0000u);
    }
  } else if (MATRIX_DTYPE == 3u) {
    uint at = (panel * (units(k) / 4u) + n / 4u) * 34u;
    vec4 d = quad_of_halves(MATRIX_WORDS[at + c / 2u], c);
    for (uint i = 0u; i < 2u; ++i) {
      ivec4 words = ivec4(MATRIX_WORDS[at + 2u + (n % 4u * 2u + i) * 4u + c]);
      for (int j = 0; j < 4; ++j) w[4u * i + uint(j)] = d * vec4(bitfieldExtract(words, 8 * j, 8));
    }
  } else {
    bool affine = MATRIX_DTYPE == 5u;
    uint at = (panel * (units(k) / 4u) + n / 4u) * (affine ? 20u : 18u);
    vec4 d = quad_of_halves(MATRIX_WORDS[at + c / 2u], c);
    vec4 m = affine ? quad_of_halves(MATRIX_WORDS[at + 2u + c / 2u], c) : vec4(0.0);
    uvec4 words = MATRIX_WORDS[at + (affine ? 4u : 2u) + n % 4u * 4u + c];
    for (uint j = 0u; j < 4u; ++j) {
      vec4 low = vec4(words >> 8u * j & 15u), high = vec4(words >> 8u * j + 4u & 15u);
      // Rounded twice, as the host does it.
      precise vec4 a = d * (affine ? low : low - 8.0), b = d * (affine ? high : high - 8.0);
      precise vec4 a_m = a + m, b_m = b + m;
      w[j] = affine ? a_m : a;
      w[4u + j] = affine ? b_m : b;
    }
  }
}

#undef MATRIX_BINDING
#undef MATRIX_BLOCK
#undef MATRIX_WORDS
#undef MATRIX_DTYPE
#undef MATRIX_LOAD
