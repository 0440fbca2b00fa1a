#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#define INTEGER_DOT
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "linear_tiled.glsl"
