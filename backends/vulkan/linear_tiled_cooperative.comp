#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_shader_subgroup_basic : require
#define COOPERATIVE
#include "common.glsl"
#include "half.glsl"
#include "math.glsl"
#include "linear_tiled.glsl"
