#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define HALF
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "linear_tiled.glsl"
