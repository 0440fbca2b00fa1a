// A matrix in panels (format/panel.h). Include with MATRIX_BINDING, MATRIX_BLOCK, MATRIX_WORDS (names),
// MATRIX_DTYPE and the name of the function, MATRIX_LOAD, defined; half.glsl comes before.
#include "codes.glsl"

layout(std430, binding = MATRIX_BINDING) readonly buffer MATRIX_BLOCK { uint MATRIX_WORDS[]; };

// The inputs [32 b, 32 b + 32) of row `r` of `panel`, zeros beyond k.
void MATRIX_LOAD(uint panel, uint r, uint b, uint k, out float w[32]) {
  if (MATRIX_DTYPE == DTYPE_F32) {
    uint at = (panel * k + b * 32u) * 16u + r;
    for (uint i = 0u; i < 32u; ++i) w[i] = b * 32u + i < k ? uintBitsToFloat(MATRIX_WORDS[at + i * 16u]) : 0.0;
  } else if (!IN_BLOCKS(MATRIX_DTYPE)) {
    uint pairs = (k + 1u) / 2u;
    uint at = (panel * pairs + b * 16u) * 16u + r;
    for (uint i = 0u; i < 16u; ++i) {
      uint word = b * 16u + i < pairs ? MATRIX_WORDS[at + i * 16u] : 0u;
      w[2u * i] = MATRIX_DTYPE == DTYPE_F16 ? half_to_float(word & 0xFFFFu) : uintBitsToFloat(word << 16);
      w[2u * i + 1u] = MATRIX_DTYPE == DTYPE_F16 ? half_to_float(word >> 16) : uintBitsToFloat(word & 0xFFFF0000u);
    }
  } else {
    uint at = (panel * ((k + GROUP_INPUTS - 1u) / GROUP_INPUTS) + b) * BLOCK_WORDS(MATRIX_DTYPE);
    float d = FACTOR(MATRIX_WORDS, at, r);
    float m = HAS_MINIMUM(MATRIX_DTYPE) ? FACTOR(MATRIX_WORDS, at + MINIMA_AT(MATRIX_DTYPE), r) : 0.0;
    at += CODES_AT(MATRIX_DTYPE) + r;
    for (uint i = 0u; i < CODE_LINES(MATRIX_DTYPE); ++i) {
      uint word = MATRIX_WORDS[at + i * PANEL_ROWS];
      for (uint h = 0u; h < CODE_PARTS(MATRIX_DTYPE); ++h) {
        uint codes = codes_in(MATRIX_DTYPE, word, h);
        for (uint j = 0u; j < 4u; ++j) {
          // Rounded twice, as the host does it.
          precise float a = d * steps_of(MATRIX_DTYPE, codes, j);
          precise float a_m = a + m;
          w[FIRST_OF_PART(i, h) + j] = HAS_MINIMUM(MATRIX_DTYPE) ? a_m : a;
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
