// Sums and maxima over the threads of a group, in a fixed order; every thread gets the result. With SUBGROUP (a
// second compilation, for devices that have subgroup arithmetic) each subgroup adds its own first.
#ifdef SUBGROUP

shared float reduced[THREADS];  // one for each subgroup; a subgroup may be a single thread

float sum_of_group(float v) {
  float own = subgroupAdd(v);
  barrier();
  if (subgroupElect()) reduced[gl_SubgroupID] = own;
  barrier();
  float sum = reduced[0];
  for (uint i = 1u; i < gl_NumSubgroups; ++i) sum += reduced[i];
  return sum;
}

float max_of_group(float v) {  // NaN wins; what subgroupMax makes of it is open
  bool bad = isnan(v);
  float bads = subgroupAdd(bad ? 1.0 : 0.0), own = subgroupMax(bad ? -kInfinity : v);
  barrier();
  if (subgroupElect()) reduced[gl_SubgroupID] = bads > 0.0 ? uintBitsToFloat(0x7FC00000u) : own;
  barrier();
  float most = reduced[0];
  for (uint i = 1u; i < gl_NumSubgroups; ++i)
    if (reduced[i] > most || isnan(reduced[i])) most = reduced[i];
  return most;
}

#else

shared float reduced[THREADS];

float sum_of_group(float v) {
  uint lane = gl_LocalInvocationID.x;
  barrier();
  reduced[lane] = v;
  barrier();
  for (uint step = THREADS / 2u; step > 0u; step /= 2u) {
    if (lane < step) reduced[lane] += reduced[lane + step];
    barrier();
  }
  return reduced[0];
}

float max_of_group(float v) {  // NaN wins
  uint lane = gl_LocalInvocationID.x;
  barrier();
  reduced[lane] = v;
  barrier();
  for (uint step = THREADS / 2u; step > 0u; step /= 2u) {
    if (lane < step) {
      float other = reduced[lane + step];
      if (other > reduced[lane] || isnan(other)) reduced[lane] = other;
    }
    barrier();
  }
  return reduced[0];
}

#endif
