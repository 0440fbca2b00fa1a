#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "math.glsl"
#include "convolution.glsl"

// Groups of one channel: a thread for each element of the output.
layout(std430, binding = 1) readonly buffer W { float taps[]; };
layout(std430, binding = 2) readonly buffer B { float bias[]; };
layout(std430, binding = 3) readonly buffer R { float residual[]; };
layout(std430, binding = 4) writeonly buffer Y { float y[]; };

float convolve(uint i, uint j, uint c) {
  float sum = BIAS ? bias[c] : 0.0;
  for (uint ky = 0u; ky < p.kernel_height; ++ky)
    for (uint kx = 0u; kx < p.kernel_width; ++kx) {
      int at = tap_at(i, j, ky, kx);
      if (at >= 0) sum += x[uint(at) + c] * taps[(ky * p.kernel_width + kx) * p.channels + c];
    }
  return sum;
}

void main() {
  uint n = thread_index();
  if (n >= p.pixels * p.written) return;
  uint c = n % p.written, pixel = n / p.written, i = pixel / p.out_width, j = pixel % p.out_width;
  float v = convolve(i, j, c);
  if (GATED)
    v *= activate(ACTIVATION, convolve(i, j, c + p.written));
  else
    v = activate(ACTIVATION, v);
  y[n] = RESIDUAL ? v + residual[n] : v;
}
