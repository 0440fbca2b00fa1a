// Keys and values as the host stores them (plan.h: cache_bytes): rows of f32, f16, or q8 groups of {f16 scale,
// int8[32]}, 34 bytes each, so that every other group begins in the middle of a word. half.glsl comes before.
// CACHE_DTYPE is as in dtype.h: 0 f32, 1 f16, 3 q8.

// The ring's slot of a position.
uint ring_slot(uint position, uint sinks, uint capacity) {
  return position < sinks ? position : sinks + (position - sinks) % (capacity - sinks);
}

// Element `at` counted from the start of the cache; rows are whole groups.
#define CACHE_HALF(words, at) (words[(at) / 2u] >> ((at)&1u) * 16u & 0xFFFFu)
#define CACHE_VALUE(words, at)                                                                             \
  (CACHE_DTYPE == 0u   ? uintBitsToFloat(words[at])                                                        \
   : CACHE_DTYPE == 1u ? half_to_float(CACHE_HALF(words, at))                                              \
                       : half_to_float(CACHE_HALF(words, (at) / 32u * 17u)) *                              \
                             float(bitfieldExtract(                                                        \
                                 int(CACHE_HALF(words, (at) / 32u * 17u + 1u + (at) % 32u / 2u)),          \
                                 int((at)&1u) * 8, 8)))
