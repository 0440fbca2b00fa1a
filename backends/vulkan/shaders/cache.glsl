// Keys and values as the host stores them (plan.h: cache_bytes): rows of f32, f16, or q8 groups of {f16 scale,
// int8[32]}, of an odd number of halves, so that every other group begins in the middle of a word. half.glsl comes before.
#include "codes.glsl"

// Element `at` counted from the start of the cache; rows are whole groups.
#define CACHE_HALF(words, at) (words[(at) / 2u] >> ((at)&1u) * 16u & 0xFFFFu)
// The half with which the q8 group of an element begins.
#define CACHE_GROUP(at) ((at) / GROUP_INPUTS * GROUP_HALVES(DTYPE_Q8))
#define CACHE_VALUE(words, at)                                                                          \
  (CACHE_DTYPE == DTYPE_F32   ? uintBitsToFloat(words[at])                                              \
   : CACHE_DTYPE == DTYPE_F16 ? half_to_float(CACHE_HALF(words, at))                                    \
                              : half_to_float(CACHE_HALF(words, CACHE_GROUP(at))) *                     \
                                    float(bitfieldExtract(                                              \
                                        int(CACHE_HALF(words, CACHE_GROUP(at) + SCALE_HALVES(DTYPE_Q8) +\
                                                                  (at) % GROUP_INPUTS / 2u)),           \
                                        int((at)&1u) * 8, 8)))
