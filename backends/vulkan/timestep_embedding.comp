#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "trigonometry.glsl"

layout(push_constant) uniform Push {
  uint groups;
  uint count, channels;  // elements of the output
  uint cos_first;
  float scale;
}
p;
layout(std430, binding = 0) readonly buffer T { float times[]; };
layout(std430, binding = 1) readonly buffer F { float frequencies[]; };
layout(std430, binding = 2) writeonly buffer Y { float y[]; };

void main() {
  uint n = thread_index();
  if (n >= p.count) return;
  uint c = n % p.channels, half_ = p.channels / 2u;
  if (c >= 2u * half_) {
    y[n] = 0.0;
    return;
  }
  // Angles in f32, as diffusers has them.
  precise float angle = p.scale * (times[n / p.channels] * frequencies[c % half_]);
  vec2 v = cos_sin(angle);
  y[n] = (c < half_) == (p.cos_first != 0u) ? v.x : v.y;
}
