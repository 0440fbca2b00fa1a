#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

// Constants: 1 kind as in model.fbs, 2 flags.
layout(constant_id = 1) const uint KIND = 0u;
layout(constant_id = 2) const uint FLAGS = 0u;
const bool CHANNELS_LAST = (FLAGS & 1u) != 0u, PLANAR_X = (FLAGS & 2u) != 0u, PLANAR_Y = (FLAGS & 4u) != 0u,
           RESIDUAL = (FLAGS & 8u) != 0u;
layout(push_constant) uniform Push {
  uint groups;
  uint count, factor;
  uint x_height, x_width, x_channels;
  uint y_height, y_width, y_channels;
}
p;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) readonly buffer R { float residual[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

float at(uint i, uint j, uint c) {
  return x[PLANAR_X ? (c * p.x_height + i) * p.x_width + j : (i * p.x_width + j) * p.x_channels + c];
}

float value(uint i, uint j, uint c) {
  uint f = p.factor;
  if (KIND == 0u) return at(i / f, j / f, c);
  if (KIND == 1u) {
    uint repeat = p.y_channels * f * f / p.x_channels;
    uint n = CHANNELS_LAST ? (i % f * f + j % f) * p.y_channels + c : (c * f + i % f) * f + j % f;
    return at(i / f, j / f, n / repeat);
  }
  uint group = p.x_channels * f * f / p.y_channels;
  float sum = 0.0;
  for (uint n = c * group; n < (c + 1u) * group; ++n) {
    uint k = CHANNELS_LAST ? n % p.x_channels : n / (f * f), place = CHANNELS_LAST ? n / p.x_channels : n % (f * f);
    sum += at(i * f + place / f, j * f + place % f, k);
  }
  return sum / float(group);
}

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint i, j, c;
  if (PLANAR_Y) {
    j = n % p.y_width;
    i = n / p.y_width % p.y_height;
    c = n / p.y_width / p.y_height;
  } else {
    c = n % p.y_channels;
    j = n / p.y_channels % p.y_width;
    i = n / p.y_channels / p.y_width;
  }
  float v = value(i, j, c);
  y[n] = RESIDUAL ? v + residual[n] : v;
}
