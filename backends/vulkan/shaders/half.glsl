// IEEE binary16, exact on every driver.
float half_to_float(uint h) {
  uint sign = (h & 0x8000u) << 16;
  uint exponent = h >> 10 & 31u, mantissa = h & 0x3FFu;
  if (exponent == 0u) {
    float value = float(mantissa) * 5.9604644775390625e-8;  // 2^-24
    return sign != 0u ? -value : value;
  }
  exponent = exponent == 31u ? 255u : exponent + 112u;
  return uintBitsToFloat(sign | exponent << 23 | mantissa << 13);
}

// Round to nearest even.
uint float_to_half(float x) {
  uint bits = floatBitsToUint(x);
  uint sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7E00u;
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;  // 65520 and more
  if (magnitude < 0x38800000u) {                         // subnormal: steps of 2^-24
    float scaled = uintBitsToFloat(magnitude) * 16777216.0;
    return sign | uint(roundEven(scaled));
  }
  uint rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
  return sign | (rounded - 0x38000000u) >> 13;
}
