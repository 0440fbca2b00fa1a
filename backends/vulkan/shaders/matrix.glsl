// A matrix in panels (format/panel.h). Include with MATRIX_BINDING, MATRIX_BLOCK, MATRIX_WORDS (names),
// MATRIX_DTYPE and the name of the function, MATRIX_LOAD, defined; half.glsl comes before.
layout(std430, binding = MATRIX_BINDING) readonly buffer MATRIX_BLOCK { uint MATRIX_WORDS[]; };

// The inputs [32 b, 32 b + 32) of row `r` of `panel`, zeros beyond k.
void MATRIX_LOAD(uint panel, uint r, uint b, uint k, out float w[32]) {
  if (MATRIX_DTYPE == 0u) {
    uint at = (panel * k + b * 32u) * 16u + r;
    for (uint i = 0u; i < 32u; ++i) w[i] = b * 32u + i < k ? uintBitsToFloat(MATRIX_WORDS[at + i * 16u]) : 0.0;
  } else if (MATRIX_DTYPE == 1u || MATRIX_DTYPE == 2u) {
    uint pairs = (k + 1u) / 2u;
    uint at = (panel * pairs + b * 16u) * 16u + r;
    for (uint i = 0u; i < 16u; ++i) {
      uint word = b * 16u + i < pairs ? MATRIX_WORDS[at + i * 16u] : 0u;
      w[2u * i] = MATRIX_DTYPE == 1u ? half_to_float(word & 0xFFFFu) : uintBitsToFloat(word << 16);
      w[2u * i + 1u] = MATRIX_DTYPE == 1u ? half_to_float(word >> 16) : uintBitsToFloat(word & 0xFFFF0000u);
    }
  } else if (MATRIX_DTYPE == 3u) {
    uint at = (panel * ((k + 31u) / 32u) + b) * 136u;
    float d = half_to_float(MATRIX_WORDS[at + r / 2u] >> (r & 1u) * 16u & 0xFFFFu);
    for (uint i = 0u; i < 8u; ++i) {
      int word = int(MATRIX_WORDS[at + 8u + i * 16u + r]);
      for (int j = 0; j < 4; ++j) w[4u * i + uint(j)] = d * float(bitfieldExtract(word, 8 * j, 8));
    }
  } else {
    bool affine = MATRIX_DTYPE == 5u;
    uint words = affine ? 80u : 72u, at = (panel * ((k + 31u) / 32u) + b) * words;
    float d = half_to_float(MATRIX_WORDS[at + r / 2u] >> (r & 1u) * 16u & 0xFFFFu);
    float m = affine ? half_to_float(MATRIX_WORDS[at + 8u + r / 2u] >> (r & 1u) * 16u & 0xFFFFu) : 0.0;
    at += words - 64u + r;
    for (uint i = 0u; i < 4u; ++i) {
      uint word = MATRIX_WORDS[at + i * 16u];
      for (uint j = 0u; j < 4u; ++j) {
        float low = float(word >> 8u * j & 15u), high = float(word >> 8u * j + 4u & 15u);
        // Rounded twice, as the host does it.
        precise float a = d * (affine ? low : low - 8.0), c = d * (affine ? high : high - 8.0);
        precise float a_m = a + m, c_m = c + m;
        w[4u * i + j] = affine ? a_m : a;
        w[16u + 4u * i + j] = affine ? c_m : c;
      }
    }
  }
}

#undef MATRIX_BINDING
#undef MATRIX_BLOCK
#undef MATRIX_WORDS
#undef MATRIX_DTYPE
#undef MATRIX_LOAD
