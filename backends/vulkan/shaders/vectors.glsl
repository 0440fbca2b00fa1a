// The vectors of an executable in one buffer and a value of a method, as bits, so that nothing is done to them
// on the way. A place counts elements of the vectors, or with OF_VALUE of the value.
const uint OF_VALUE = 0x80000000u, NOT_FINITE = 0u;
layout(std430, binding = 0) buffer V { uint vectors[]; };
layout(std430, binding = 1) buffer W { uint value[]; };

uint bits_of(uint place, uint i) {
  return (place & OF_VALUE) != 0u ? value[(place & ~OF_VALUE) + i] : vectors[place + i];
}
float element(uint place, uint i) { return uintBitsToFloat(bits_of(place, i)); }
bool not_finite(uint bits) { return (bits & 0x7F800000u) == 0x7F800000u; }
