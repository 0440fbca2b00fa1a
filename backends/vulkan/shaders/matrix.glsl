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
    uint first = panel * panel_words(MATRIX_DTYPE, (k + GROUP_INPUTS - 1u) / GROUP_INPUTS);
    uint at = first + block_at(MATRIX_DTYPE, b) + CODES_AT(MATRIX_DTYPE) + r;
    for (uint h = 0u; h < HALVES(MATRIX_DTYPE); ++h) {
      float d = SCALE_OF(MATRIX_WORDS, MATRIX_DTYPE, first, b, r, h);
      float m = LEAST_OF(MATRIX_WORDS, MATRIX_DTYPE, first, b, r, h);
      for (uint n = 0u; n < 8u / HALVES(MATRIX_DTYPE); ++n) {
        uint i = h * 4u + n;
        uint low = MATRIX_WORDS[at + LOW_LINE(MATRIX_DTYPE, i) * PANEL_ROWS];
        uint high = HAS_HIGH(MATRIX_DTYPE) ? MATRIX_WORDS[at + HIGH_LINE(MATRIX_DTYPE, i) * PANEL_ROWS] : 0u;
        uint codes = codes_of(MATRIX_DTYPE, low, high, i);
        for (uint j = 0u; j < 4u; ++j) {
          // Rounded twice, as the host does it.
          precise float a = d * steps_of(MATRIX_DTYPE, codes, j);
          precise float a_m = a + m;
          w[4u * i + j] = HAS_MINIMUM(MATRIX_DTYPE) ? a_m : a;
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
