// linear for many tokens: a group makes 32 tokens x 64 outputs (gated: 32 of each matrix), a thread 4 x 4 of them.
// A block of 32 inputs of both sides goes through shared memory, 16 KiB at most. With INTEGER_DOT weights are in
// blocks, and activations are rounded to 8 bits in groups of 32, as the CPU backend rounds them. With HALF both
// sides are rounded to f16 in groups of 32 and multiplied in f16, and four products at a time are added in f16. With
// COOPERATIVE both sides are rounded to f16 and multiplied by the device's matrix units, which add in f32.
// Constant 0 is 128; with COOPERATIVE 6, 7 and 8 are the units' M, N and K (of tokens, outputs and inputs; each divides its
// side of the tile) and 9 is the subgroups of a group.
#include "product.glsl"
#define MATRIX_BINDING 1
#define MATRIX_BLOCK W0
#define MATRIX_WORDS w0
#define MATRIX_DTYPE DTYPE0
#define MATRIX_LOAD load0
#include "matrix.glsl"

layout(std430, binding = 2) readonly buffer B0 { float bias0[]; };
#define MATRIX_BINDING 3
#define MATRIX_BLOCK W1
#define MATRIX_WORDS w1
#define MATRIX_DTYPE DTYPE1
#define MATRIX_LOAD load1
#include "matrix.glsl"
layout(std430, binding = 4) readonly buffer B1 { float bias1[]; };
layout(std430, binding = 5) readonly buffer R { float residual[]; };
layout(std430, binding = 6) readonly buffer P { float parts[]; };
layout(std430, binding = 7) writeonly buffer Y { float y[]; };

const uint TOKENS = 32u, OUTPUTS = 64u, ROW = TOKENS + 1u;  // a row more spreads writes over the banks

// Row `lane` of a group of 32 inputs of the weights; zeros outside.
void load_group(uint lane, uint panel, bool second, bool inside, uint b, out float w[32]) {
  if (!inside) {
    for (uint i = 0u; i < 32u; ++i) w[i] = 0.0;
  } else if (second) {
    load1(p.skip1 + panel, lane & 15u, b, p.k, w);
  } else {
    load0(p.skip0 + panel, lane & 15u, b, p.k, w);
  }
}

// Where token t's inputs of a group begin, how many there are, and the largest magnitude; a NaN counts as that.
float largest_input(uint t, uint b, out uint at, out uint count) {
  at = (p.first_token + t) * p.k + b * 32u;
  count = t < p.rows ? min(32u, p.k - b * 32u) : 0u;
  float most = 0.0;
  for (uint i = 0u; i < count; ++i) {
    float a = abs(x[at + i]);
    if (a > most || isnan(a)) most = a;
  }
  return most;
}

#ifdef INTEGER_DOT

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot_4x8(int a, int b, spirv_literal int packed_format);

shared int inputs[8][ROW], weights[8][OUTPUTS];
shared float input_step[ROW], input_sum[ROW], weight_step[OUTPUTS], weight_least[OUTPUTS];

// Row r of a group of 32 inputs: x = step * integer + least. (Types with a scale for each half of a group do not come
// here.)
uint integers_of(uint t, uint codes) {
  if (!IN_TABLE(t)) return codes;
  uint word = 0u;
  for (uint j = 0u; j < 4u; ++j) word |= (uint(int(step_of_code(t, codes >> 8u * j & 0xFFu))) & 0xFFu) << 8u * j;
  return word;
}
#define LOAD_INTEGERS(name, words, DTYPE)                                                               \
  void name(uint panel, uint r, uint b, uint row) {                                                     \
    uint first = panel * panel_words(DTYPE, (p.k + GROUP_INPUTS - 1u) / GROUP_INPUTS);                  \
    float step = SCALE_OF(words, DTYPE, first, b, r, 0u);                                               \
    weight_step[row] = step;                                                                            \
    weight_least[row] = HAS_MINIMUM(DTYPE) ? LEAST_OF(words, DTYPE, first, b, r, 0u)                    \
                        : CODE_ZERO(DTYPE) != 0u ? -float(CODE_ZERO(DTYPE)) * step : 0.0;                     \
    uint at = first + block_at(DTYPE, b) + CODES_AT(DTYPE) + r;                                         \
    for (uint i = 0u; i < 8u; ++i) {                                                                    \
      uint low = words[at + LOW_LINE(DTYPE, i) * PANEL_ROWS];                                           \
      uint high = HAS_HIGH(DTYPE) ? words[at + HIGH_LINE(DTYPE, i) * PANEL_ROWS] : 0u;                  \
      weights[i][row] = int(integers_of(DTYPE, codes_of(DTYPE, low, high, i)));                         \
    }                                                                                                   \
  }
LOAD_INTEGERS(integers0, w0, DTYPE0)
LOAD_INTEGERS(integers1, w1, DTYPE1)

void load_weights(uint lane, uint panel, bool second, bool inside, uint b) {
  if (!inside) {
    weight_step[lane] = weight_least[lane] = 0.0;
    for (uint i = 0u; i < 8u; ++i) weights[i][lane] = 0;
  } else if (second) {
    integers1(p.skip1 + panel, lane & 15u, b, lane);
  } else {
    integers0(p.skip0 + panel, lane & 15u, b, lane);
  }
}

// A thread for each token.
void load_inputs(uint lane, uint t0, uint b) {
  if (lane >= TOKENS) return;
  uint at, count;
  float most = largest_input(t0 + lane, b, at, count);
  float inverse = most > 0.0 && !isinf(most) ? 127.0 / most : 0.0;
  int sum = 0;
  for (uint i = 0u; i < 8u; ++i) {
    uint word = 0u;
    for (uint j = 0u; j < 4u; ++j) {
      int q = i * 4u + j < count ? int(clamp(roundEven(x[at + i * 4u + j] * inverse), -127.0, 127.0)) : 0;
      sum += q;
      word |= (uint(q) & 0xFFu) << 8u * j;
    }
    inputs[i][lane] = int(word);
  }
  // What is not finite makes the outputs not finite.
  bool finite = !isnan(most) && !isinf(most);
  input_step[lane] = finite ? most / 127.0 : uintBitsToFloat(0x7FC00000u);
  input_sum[lane] = float(sum);
}

void multiply(uint r, uint first_token, inout float acc[4][4]) {
  int products[4][4];
  for (uint s = 0u; s < 4u; ++s)
    for (uint t = 0u; t < 4u; ++t) products[s][t] = 0;
  for (uint i = 0u; i < 8u; ++i) {
    int a[4];
    for (uint t = 0u; t < 4u; ++t) a[t] = inputs[i][first_token + t];
    for (uint s = 0u; s < 4u; ++s) {
      int w = weights[i][s * 16u + r];
      for (uint t = 0u; t < 4u; ++t) products[s][t] += dot_4x8(a[t], w, 0);
    }
  }
  for (uint s = 0u; s < 4u; ++s) {
    float step = weight_step[s * 16u + r], least = weight_least[s * 16u + r];
    for (uint t = 0u; t < 4u; ++t)
      acc[s][t] += input_step[first_token + t] *
                   (step * float(products[s][t]) + least * input_sum[first_token + t]);
  }
}

#elif defined(COOPERATIVE)

#include "linear_cooperative.glsl"

#elif defined(HALF)

// Two inputs at a time, divided by a power of two that brings the largest of the group into [1, 2): no sum of four
// products overflows, and what f16 flushes to zero is below 2^-14 of the group's largest.
shared f16vec2 inputs[16][ROW], weights[16][OUTPUTS];
shared float input_scale[ROW], weight_scale[OUTPUTS];

// The power of two, and what to multiply by. A group that is not finite is zeros and makes its outputs NaN.
float scale_of(float most, out float inverse) {
  uint exponent = floatBitsToUint(most) >> 23;
  inverse = 0.0;
  if (exponent == 0u) return 0.0;
  if (exponent == 255u) return uintBitsToFloat(0x7FC00000u);
  exponent = min(exponent, 253u);
  inverse = uintBitsToFloat(254u - exponent << 23);
  return uintBitsToFloat(exponent << 23);
}

void load_weights(uint lane, uint panel, bool second, bool inside, uint b) {
  float w[32];
  load_group(lane, panel, second, inside, b, w);
  float most = 0.0, inverse;
  for (uint i = 0u; i < 32u; ++i) {
    float a = abs(w[i]);
    if (a > most || isnan(a)) most = a;
  }
  weight_scale[lane] = scale_of(most, inverse);
  for (uint i = 0u; i < 16u; ++i)
    weights[i][lane] = inverse > 0.0 ? f16vec2(w[2u * i] * inverse, w[2u * i + 1u] * inverse) : f16vec2(0.0);
}

// A thread for each token.
void load_inputs(uint lane, uint t0, uint b) {
  if (lane >= TOKENS) return;
  uint at, count;
  float inverse, most = largest_input(t0 + lane, b, at, count);
  input_scale[lane] = scale_of(most, inverse);
  for (uint i = 0u; i < 16u; ++i) {
    float first = 2u * i < count && inverse > 0.0 ? x[at + 2u * i] * inverse : 0.0;
    float second = 2u * i + 1u < count && inverse > 0.0 ? x[at + 2u * i + 1u] * inverse : 0.0;
    inputs[i][lane] = f16vec2(first, second);
  }
}

void multiply(uint r, uint first_token, inout float acc[4][4]) {
  for (uint t = 0u; t < 4u; ++t)
    for (uint s = 0u; s < 4u; ++s) {
      float sum = 0.0;
      for (uint i = 0u; i < 16u; i += 4u) {
        f16vec2 products = f16vec2(0.0);
        for (uint j = i; j < i + 4u; ++j) products += inputs[j][first_token + t] * weights[j][s * 16u + r];
        sum += float(products.x) + float(products.y);
      }
      acc[s][t] += input_scale[first_token + t] * weight_scale[s * 16u + r] * sum;
    }
}

#else

shared float inputs[32][ROW], weights[32][OUTPUTS];

void load_weights(uint lane, uint panel, bool second, bool inside, uint b) {
  float w[32];
  load_group(lane, panel, second, inside, b, w);
  for (uint i = 0u; i < 32u; ++i) weights[i][lane] = w[i];
}

void load_inputs(uint lane, uint t0, uint b) {
  for (uint n = lane; n < TOKENS * 32u; n += OUTPUTS) {
    uint t = n / 32u, i = n % 32u;
    bool inside = t0 + t < p.rows && b * 32u + i < p.k;
    inputs[i][t] = inside ? x[(p.first_token + t0 + t) * p.k + b * 32u + i] : 0.0;
  }
}

void multiply(uint r, uint first_token, inout float acc[4][4]) {
  for (uint i = 0u; i < 32u; ++i) {
    float a[4];
    for (uint t = 0u; t < 4u; ++t) a[t] = inputs[i][first_token + t];
    for (uint s = 0u; s < 4u; ++s) {
      float w = weights[i][s * 16u + r];
      for (uint t = 0u; t < 4u; ++t) acc[s][t] += a[t] * w;
    }
  }
}

#endif

// What a group makes: from panel `first` on, `own` of each matrix, for the tokens from t0 on; a thread makes
// row r of each panel for four tokens.
struct Tile {
  uint lane, r, first_token, own, first, t0;
};
Tile own_tile() {
  uint lane = gl_LocalInvocationID.x, own = GATED ? 2u : 4u, across = (p.panels + own - 1u) / own;
  return Tile(lane, lane & 15u, lane / 16u * 4u, own, group_index() % across * own, group_index() / across * TOKENS);
}

// Brings the inputs [32 b, 32 b + 32) of both sides into shared memory.
void load_block(Tile tile, uint b) {
  barrier();
  if (tile.lane < OUTPUTS) {
    uint slot = tile.lane / 16u, panel = tile.first + slot % tile.own;
    load_weights(tile.lane, panel, slot >= tile.own, panel < p.panels, b);
  } else {
    load_inputs(tile.lane - OUTPUTS, tile.t0, b);
  }
  barrier();
}

void write_outputs(Tile tile, float acc[4][4]) {
  for (uint s = 0u; s < tile.own; ++s) {
    uint row = (p.first_panel + tile.first + s) * 16u + tile.r;
    if (tile.first + s >= p.panels || row >= p.n) continue;
    for (uint t = 0u; t < 4u; ++t) {
      uint token = tile.t0 + tile.first_token + t, at = token * p.n + row;
      if (token >= p.rows) continue;
      float a = acc[s][t];
      if (BIAS0) a += bias0[row];
      a = activate(ACTIVATION, a);
      if (GATED) a *= BIAS1 ? acc[(s + 2u) & 3u][t] + bias1[row] : acc[(s + 2u) & 3u][t];
      if (PART) a *= parts[p.part + row];
      if (RESIDUAL) a += residual[at];
      y[at] = a;
    }
  }
}

#ifdef COOPERATIVE
// Units are counted down the tokens first, so that those of a subgroup share their weights.
void main() {
  if (group_index() >= p.groups) return;
  const Tile tile = own_tile();
  find_scales(tile.lane, tile.first, tile.own, tile.t0);
  coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[OWN_UNITS];
  for (uint i = 0u; i < OWN_UNITS; ++i)
    sums[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
  const uint unit0 = gl_SubgroupID * OWN_UNITS;
  for (uint b = 0u; b * 32u < p.k; ++b) {
    load_block(tile, b);
    for (uint k = 0u; k < 32u; k += K) {
      coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
      coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> w;
      for (uint i = 0u; i < OWN_UNITS && unit0 + i < UNITS; ++i) {
        uint down = (unit0 + i) % DOWN, across = (unit0 + i) / DOWN;
        if (i == 0u || down == 0u)
          coopMatLoad(w, weights, across * N * STRIDE + k, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
        coopMatLoad(a, inputs, down * M * STRIDE + k, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
        sums[i] = coopMatMulAdd(a, w, sums[i]);
      }
    }
  }
  for (uint i = 0u; i < OWN_UNITS && unit0 + i < UNITS; ++i) {
    uint down = (unit0 + i) % DOWN, across = (unit0 + i) / DOWN;
    coopMatStore(sums[i], products, down * M * OUTPUTS + across * N, OUTPUTS, gl_CooperativeMatrixLayoutRowMajor);
  }
  barrier();
  float acc[4][4];
  for (uint s = 0u; s < 4u; ++s)
    for (uint t = 0u; t < 4u; ++t)
      acc[s][t] = products[(tile.first_token + t) * OUTPUTS + s * 16u + tile.r] * input_scale[tile.first_token + t] *
                  weight_scale[s * 16u + tile.r];
  write_outputs(tile, acc);
}
#else
void main() {
  if (group_index() >= p.groups) return;
  const Tile tile = own_tile();
  float acc[4][4];
  for (uint s = 0u; s < 4u; ++s)
    for (uint t = 0u; t < 4u; ++t) acc[s][t] = 0.0;
  for (uint b = 0u; b * 32u < p.k; ++b) {
    load_block(tile, b);
    multiply(tile.r, tile.first_token, acc);
  }
  write_outputs(tile, acc);
}
#endif
