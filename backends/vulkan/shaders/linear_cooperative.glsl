// Both sides of linear_tiled.glsl as f16, for the device's matrix units.
layout(constant_id = 6) const uint M = 16u;
layout(constant_id = 7) const uint N = 16u;
layout(constant_id = 8) const uint K = 16u;
layout(constant_id = 9) const uint SUBGROUPS = 4u;
const uint DOWN = TOKENS / M, UNITS = DOWN * (OUTPUTS / N), OWN_UNITS = (UNITS + SUBGROUPS - 1u) / SUBGROUPS;
const uint STRIDE = 40u;  // of 32 inputs: rows begin in different banks, at multiples of 16 bytes

shared float16_t inputs[TOKENS * STRIDE], weights[OUTPUTS * STRIDE];
shared float products[TOKENS * OUTPUTS];
shared float input_scale[TOKENS], weight_scale[OUTPUTS];

// A power of two that brings the largest of a row (over all its inputs) into [2^14, 2^15): f16 holds that, and what it
// flushes to zero is below 2^-28 of the largest. A row that is not finite is zeros and makes its outputs NaN.
float scale_of(float most) {
  uint exponent = floatBitsToUint(most) >> 23;
  if (exponent == 255u) return uintBitsToFloat(0x7FC00000u);
  return uintBitsToFloat(max(exponent, 15u) - 14u << 23);
}

// f16 of v / scale.
float16_t scaled(float v, float scale) {
  return isnan(scale) ? float16_t(0.0) : float16_t(v * uintBitsToFloat(0x7F000000u - floatBitsToUint(scale)));
}

float larger(float most, float a) { return a > most || isnan(a) ? a : most; }

// At least the largest magnitude of the inputs [32 b, 32 b + 32) of a row, from its scales.
#define LARGEST_WEIGHT(name, words, DTYPE)                                                      \
  float name(uint panel, uint r, uint b) {                                                      \
    uint first = panel * panel_words(DTYPE, (p.k + GROUP_INPUTS - 1u) / GROUP_INPUTS);          \
    float most = 0.0;                                                                           \
    for (uint h = 0u; h < HALVES(DTYPE); ++h) {                                                 \
      float step = SCALE_OF(words, DTYPE, first, b, r, h);                                      \
      float least = LEAST_OF(words, DTYPE, first, b, r, h);                                     \
      most = larger(most, HAS_MINIMUM(DTYPE) ? larger(abs(least), abs(float(MOST_STEPS(DTYPE)) * step + least)) \
                                             : abs(step) * float(MOST_STEPS(DTYPE)));                  \
    }                                                                                           \
    return most;                                                                                \
  }
LARGEST_WEIGHT(largest0, w0, DTYPE0)
LARGEST_WEIGHT(largest1, w1, DTYPE1)

// The scales of all rows of both sides.
void find_scales(uint lane, uint first, uint own, uint t0) {
  // Four threads for each token.
  uint t = t0 + lane / 4u;
  float most = 0.0;
  if (t < p.rows)
    for (uint i = lane & 3u; i < p.k; i += 4u) most = larger(most, abs(x[(p.first_token + t) * p.k + i]));
  products[lane] = most;
  // Two for each row of weights; f16 weights are what they are.
  uint slot = (lane & 63u) / 16u, panel = first + slot % own, r = lane & 15u;
  bool second = slot >= own;
  most = 0.0;
  if (panel < p.panels && (second ? DTYPE1 : DTYPE0) != DTYPE_F16)
    for (uint b = lane / OUTPUTS; b * 32u < p.k; b += 2u)
      most = larger(most, second ? largest1(p.skip1 + panel, r, b) : largest0(p.skip0 + panel, r, b));
  products[THREADS + lane] = most;
  barrier();
  if (lane < TOKENS) {
    most = 0.0;
    for (uint i = 0u; i < 4u; ++i) most = larger(most, products[lane * 4u + i]);
    input_scale[lane] = scale_of(most);
  } else if (lane >= OUTPUTS) {
    uint row = lane - OUTPUTS;
    weight_scale[row] = ((row / 16u >= own ? DTYPE1 : DTYPE0) == DTYPE_F16)
                            ? 1.0
                            : scale_of(larger(products[THREADS + row], products[THREADS + OUTPUTS + row]));
  }
}

void load_weights(uint lane, uint panel, bool second, bool inside, uint b) {
  float w[32];
  load_group(lane, panel, second, inside, b, w);
  for (uint i = 0u; i < 32u; ++i) weights[lane * STRIDE + i] = scaled(w[i], weight_scale[lane]);
}

// Two threads for each token.
void load_inputs(uint lane, uint t0, uint b) {
  uint t = lane / 2u, first = (lane & 1u) * 16u;
  for (uint i = first; i < first + 16u; ++i) {
    bool inside = t0 + t < p.rows && b * 32u + i < p.k;
    float v = inside ? x[(p.first_token + t0 + t) * p.k + b * 32u + i] : 0.0;
    inputs[t * STRIDE + i] = scaled(v, input_scale[t]);
  }
}
